defmodule Tank.OtherBeam do
  @moduledoc false

  # Another BEAM, with an app that has Tank in its supervision tree, for a test to end in
  # whatever way.

  import Tank.Wait

  alias Tank.Acceptance

  defstruct [:port, :pid, :program_pid, :host_pid, :log]

  # It writes as long as it lives, and says goodbye when it is asked to end.
  @script "trap 'echo bye; exit 0' TERM; while :; do echo tick; /bin/busybox sleep 0.02 & wait; done"

  @app ~S"""
  defmodule App do
    use Application

    @impl true
    def start(:normal, opts),
      do: Supervisor.start_link([{Tank.Reconciler, opts}], strategy: :one_for_one)
  end

  {opts, pod} = System.argv() |> hd() |> Base.decode64!() |> :erlang.binary_to_term()
  :ok = :application.load({:application, :app, mod: {App, opts}, applications: [:tank]})
  {:ok, _started} = Application.ensure_all_started(:app)
  :ok = Tank.apply(pod)
  :ok = Tank.sync()
  program_pid = :sys.get_state(Tank.Reconciler).link.os_pid
  IO.puts("runs #{System.pid()} #{program_pid} #{Tank.status("web").host_pid} .")
  if IO.gets("") == "stop\n", do: Application.stop(:app), else: Process.sleep(:infinity)
  """

  @doc "One that runs a pod that writes; it is started after a shell has done something."
  def start!(context, opts, before \\ "") do
    dirs = [data_dir: Path.join(context.dir, "data"), run_dir: Path.join(context.dir, "run")]
    binary = Application.app_dir(:tank, "priv/tank")
    pod = Acceptance.pod(context, "web", ["/bin/sh", "-c", @script])
    told = {dirs ++ [binary: binary] ++ opts, pod} |> :erlang.term_to_binary() |> Base.encode64()
    elixir = [System.find_executable("elixir"), "-pa", ebin(), "-e", @app, told]

    port =
      Port.open(
        {:spawn_executable, "/bin/sh"},
        [:binary, :exit_status, args: ["-c", before <> "\nexec \"$@\"", "sh" | elixir]]
      )

    [pid, program_pid, host_pid] = ready(port, "")
    log = Path.join(context.dir, "data/logs/web/c.log")
    pids = [pid: pid, program_pid: program_pid, host_pid: host_pid]
    beam = struct!(__MODULE__, [port: port, log: log] ++ pids)
    # Whatever becomes of the test, nothing is left: the next start stops it in order.
    ExUnit.Callbacks.on_exit(fn -> clean_up(beam, dirs) end)
    eventually("the pod writes", fn -> said?(beam, "tick") end)
    beam
  end

  defp ebin, do: Application.app_dir(:tank, "ebin")

  defp ready(port, said) do
    case Regex.run(~r/runs (\d+) (\d+) (\d+) \./, said) do
      [_all | pids] ->
        pids

      nil ->
        receive do
          {^port, {:data, more}} -> ready(port, said <> more)
          {^port, {:exit_status, status}} -> raise "it ended with #{status}: #{said}"
        end
    end
  end

  defp clean_up(beam, dirs) do
    kill(beam)
    {:ok, server} = Tank.Reconciler.start_link([name: :clean_up] ++ dirs)
    GenServer.stop(server)
  end

  @doc "Kills it as `kill -9` does."
  def kill(beam), do: System.cmd("kill", ["-9", beam.pid], stderr_to_stdout: true)

  @doc "Has it stop its supervision tree, and waits for its end."
  def stop(%{port: port}) do
    Port.command(port, "stop\n")

    receive do
      {^port, {:exit_status, status}} -> status
    end
  end

  @doc "Whether the pod's first process lives."
  def pod_alive?(beam), do: File.exists?("/proc/#{beam.host_pid}")

  @doc "Whether the pod has said this."
  def said?(beam, word) do
    case File.read(beam.log) do
      {:ok, said} -> said =~ word
      {:error, _none} -> false
    end
  end

  @doc "Waits until the pod has said more: it lives, and goes on as it did."
  def await_more(beam) do
    size = File.stat!(beam.log).size
    eventually("the pod writes on", fn -> File.stat!(beam.log).size > size end)
  end
end
