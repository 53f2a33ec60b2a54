defmodule Tank.PathDependencyTest do
  # A new app that has never seen Tank uses it by path: its own `mix` builds the
  # port program and runs pods with it.
  use ExUnit.Case, async: true

  @moduletag timeout: 600_000

  @app ~S"""
  defmodule Stub do
    use GenServer, restart: :temporary
    def start_link(args), do: GenServer.start_link(__MODULE__, args)
    def init(args), do: {:ok, args}
  end

  children = [{Tank.Reconciler, runtime: Stub, store: :memory}]
  {:ok, _sup} = Supervisor.start_link(children, strategy: :one_for_one)
  :ok = Tank.apply(%{name: "web", containers: [%{name: "c", image: "alpine"}]})
  :ok = Tank.sync()
  %{"web" => pid} = Tank.running()
  true = Process.alive?(pid)
  IO.puts("it runs: #{Tank.status()["web"].status}")
  """

  test "a new app depends on Tank by path and runs a pod" do
    scratch =
      Path.join(System.tmp_dir!(), "path-dependency-#{System.unique_integer([:positive])}")

    File.mkdir_p!(scratch)
    on_exit(fn -> File.rm_rf!(scratch) end)

    mix!(["new", "user_app"], scratch)
    app = Path.join(scratch, "user_app")
    mixfile = Path.join(app, "mix.exs")
    dependency = "{:tank, path: #{inspect(File.cwd!())}}"

    source =
      String.replace(
        File.read!(mixfile),
        ~r/defp deps do\s+\[.*?\]/s,
        "defp deps do [#{dependency}]"
      )

    File.write!(mixfile, source)
    File.write!(Path.join(app, "run.exs"), @app)

    assert mix!(["run", "run.exs"], app) =~ "it runs: running"
    refute mix!(["compile"], app) =~ "Compiling", "a second build has nothing to do"
  end

  defp mix!(args, dir) do
    env = [{"MIX_ENV", nil}, {"MIX_BUILD_PATH", nil}]
    {output, status} = System.cmd("mix", args, cd: dir, env: env, stderr_to_stdout: true)
    assert status == 0, output
    output
  end
end
