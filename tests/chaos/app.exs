# The victim of the chaos test: an app with Tank in its supervision tree. It obeys
# the commands on its stdin, a line each, and answers each in a line when it is
# done, in any order; it may be killed at any moment. Decides nothing.
#
#   ID apply KIND NAME VERSION    ID delete NAME    ID restart NAME
#   ID list                       ID status
#
# usage: elixir -pa EBIN app.exs DIR BINARY CGROUP_PARENT

defmodule Chaos.Specs do
  @moduledoc false

  def spec(dir, kind, name, version) do
    %{
      name: name,
      restart: if(kind in ["once", "oci-once"], do: :never, else: :always),
      containers: for(role <- roles(kind), do: container(dir, kind, name, role, version)),
      volumes: [%{name: "journal", source: {:host, Path.join(dir, "journal")}}],
      userns: if(kind == "paired", do: :auto, else: :host),
      oci_runtime: if(String.starts_with?(kind, "oci"), do: "crun")
    }
  end

  defp roles("paired"), do: ["main", "side"]
  defp roles(_kind), do: ["main"]

  defp container(dir, kind, name, role, version) do
    %{
      name: role,
      image: {:rootfs, Path.join(dir, "rootfs")},
      command: ["/bin/workload", kind, name, role, version],
      mounts: [%{volume: "journal", path: "/journal"}],
      sidecar: role == "side",
      tty: kind == "terminal",
      init: kind == "init",
      env: env(kind),
      limits: limits(kind)
    }
  end

  # So much that no disk without room has room for it.
  defp env("large"), do: for(n <- 1..10, into: %{}, do: {"V#{n}", String.duplicate("v", 100_000)})
  defp env(_kind), do: %{}

  defp limits(kind) when kind in ["forking", "logging", "init", "oci"] do
    %{pids: 60, memory: 64 * 1024 * 1024}
  end

  defp limits(_kind), do: %{}
end

defmodule Chaos.App do
  @moduledoc false

  alias Chaos.Specs

  def run([dir, binary, cgroup_parent]) do
    {:ok, _apps} = Application.ensure_all_started(:logger)
    supervisor = start(options(dir, binary, cgroup_parent))
    say("0 ready")
    obey(dir)
    Supervisor.stop(supervisor)
    System.halt(0)
  end

  defp options(dir, binary, cgroup_parent) do
    [
      data_dir: Path.join(dir, "data"),
      run_dir: Path.join(dir, "run"),
      binary: binary,
      on_disconnect: :keep,
      interval: 500,
      backoff_base: 100,
      backoff_cap: 1_000,
      stable_window: 60_000,
      runtime_opts: [stop_grace_ms: 300, cgroup_parent: cgroup_parent]
    ]
  end

  # As a service manager would: a port program that is frozen holds the data
  # directory for as long as it is.
  defp start(options) do
    Process.flag(:trap_exit, true)

    case Supervisor.start_link([{Tank.Reconciler, options}],
           strategy: :one_for_one,
           max_restarts: 1_000_000
         ) do
      {:ok, supervisor} -> supervisor
      {:error, _why} -> Process.sleep(50) && start(options)
    end
  end

  defp obey(dir) do
    case IO.read(:line) do
      :eof ->
        :ok

      line ->
        [id | command] = line |> String.trim() |> String.split(" ")
        spawn(fn -> say("#{id} #{answer(command, dir)}") end)
        obey(dir)
    end
  end

  defp answer(command, dir) do
    execute(command, dir)
  rescue
    error -> outcome({:error, error})
  catch
    :exit, _why -> "error exit"
  end

  defp execute(["apply", kind, name, version], dir) do
    outcome(Tank.apply(Specs.spec(dir, kind, name, version)))
  end

  defp execute(["delete", name], _dir), do: outcome(Tank.delete(name))
  defp execute(["restart", name], _dir), do: outcome(Tank.restart(name))

  defp execute(["list"], _dir) do
    pods =
      for %{name: name, containers: [%{command: command} | _]} <- Tank.list(),
          do: "#{name}=#{List.last(command)}"

    Enum.join(["ok" | pods], " ")
  end

  defp execute(["status"], _dir) do
    pods =
      for {name, status} <- Tank.status(),
          do: "#{name}=#{status.status},#{status.host_pid || 0},#{exit_kind(status.last_exit)}"

    Enum.join(["ok" | pods], " ")
  end

  defp exit_kind({kind, _what}), do: kind
  defp exit_kind(nil), do: "none"

  defp outcome(:ok), do: "ok"
  defp outcome({:error, %Tank.Error{} = error}), do: "error #{error.code} #{error.message}"
  defp outcome({:error, reason}), do: "error other #{inspect(reason)}"

  defp say(line), do: IO.puts(String.replace(line, "\n", " "))
end

Chaos.App.run(System.argv())
