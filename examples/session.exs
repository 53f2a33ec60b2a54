defmodule Session do
  @moduledoc false

  # An Elixir session as a person would type it: each line shown, then its result.

  @doc "Says and evaluates step by step; the bindings that come of it."
  def run(steps, bindings) do
    Enum.reduce(steps, bindings, fn
      {:say, text}, bindings ->
        IO.puts(["\n", IO.ANSI.format([:bright, "# ", text])])
        bindings

      code, bindings ->
        lines = code |> String.trim() |> String.split("\n")
        IO.puts(["iex> ", Enum.intersperse(lines, "\n...> ")])
        {result, bindings} = Code.eval_string(code, bindings, __ENV__)
        IO.puts(inspect(result, pretty: true, limit: :infinity, width: 98))
        bindings
    end)
  end
end
