defmodule Tank.Wait do
  @moduledoc false

  # Tests wait for a condition, never for a time.

  @poll_ms 5

  @doc """
  The first truthy value of `fun`, asked again and again; fails with `what` after `timeout_ms`.
  """
  def eventually(what, fun, timeout_ms \\ 10_000) do
    poll(what, fun, System.monotonic_time(:millisecond) + timeout_ms)
  end

  defp poll(what, fun, deadline) do
    cond do
      value = fun.() ->
        value

      System.monotonic_time(:millisecond) > deadline ->
        ExUnit.Assertions.flunk("never came true: #{what}")

      true ->
        Process.sleep(@poll_ms)
        poll(what, fun, deadline)
    end
  end

  @doc "Milliseconds that `fun` takes, and its value."
  def timed(fun) do
    {micros, value} = :timer.tc(fun)
    {div(micros, 1_000), value}
  end
end
