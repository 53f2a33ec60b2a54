unless Code.ensure_loaded?(Mix.Tasks.Compile.Tank) do
  Code.require_file("mix/compile.tank.exs", __DIR__)
end

defmodule Tank.MixProject do
  use Mix.Project

  def project do
    [
      app: :tank,
      version: "0.1.0",
      elixir: "~> 1.14",
      compilers: [:tank] ++ Mix.compilers(),
      elixirc_paths: elixirc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      deps: []
    ]
  end

  def application do
    [extra_applications: [:logger]]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_env), do: ["lib"]
end
