defmodule Tank.Scratch do
  @moduledoc false

  @doc "A new directory that is removed after the test (or, from `setup_all`, the module)."
  def dir!(label) do
    dir = Path.join(System.tmp_dir!(), "tank-#{label}-#{System.pid()}-#{unique()}")
    File.mkdir_p!(dir)
    ExUnit.Callbacks.on_exit(fn -> remove(dir) end)
    dir
  end

  # A program that is about to end may still write into it.
  defp remove(dir) do
    Tank.Wait.eventually("#{dir} is gone", fn -> match?({:ok, _files}, File.rm_rf(dir)) end)
  end

  @doc "A text that nothing else on this machine has."
  def unique, do: System.unique_integer([:positive, :monotonic])
end
