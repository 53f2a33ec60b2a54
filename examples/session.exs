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

  @doc "Waits until the pod's status is `status`, and returns its status map."
  def await(name, status, tries \\ 500) do
    case Tank.status() do
      %{^name => %{status: ^status} = map} -> map
      _ when tries > 0 -> Process.sleep(20) && await(name, status, tries - 1)
      other -> raise "#{name} did not become #{status}: #{inspect(other)}"
    end
  end
end
