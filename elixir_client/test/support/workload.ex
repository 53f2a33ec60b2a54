defmodule Tank.Workload do
  @moduledoc false

  # What the acceptance tests run, and how they make it end: as containers, or
  # as processes of an injected runtime. The tests are the same.

  import Tank.Wait

  alias Tank.Reconciler

  # Exits on request, and is killed at once by a stop: it does not catch TERM.
  @script "trap 'exit 0' USR1; trap 'exit 3' USR2; /bin/busybox sleep 100000 & while :; do wait; done"

  def command(:containers), do: ["/bin/sh", "-c", @script]
  def command(:injected), do: ["run"]

  # Needs 2 seconds to stop, and nothing shortens them.
  def stubborn(:containers),
    do: ["/bin/sh", "-c", "trap '' TERM; while :; do /bin/busybox sleep 1; done"]

  def stubborn(:injected), do: ["ignore"]

  def hung(:containers), do: ["/bin/busybox", "sleep", "100000"]
  def hung(:injected), do: ["hang"]

  @doc "A crash, by the process that stands for the run."
  def crash(_kind, server, name), do: Process.exit(pid!(server, name), :kill)

  @doc "The workload exits by itself."
  def exit_with(:injected, server, name, 0), do: GenServer.stop(pid!(server, name), :normal)

  def exit_with(:injected, server, name, code) do
    GenServer.stop(pid!(server, name), {:shutdown, {:workload_exited, code}})
  end

  def exit_with(:containers, server, name, code) do
    signal = %{0 => "USR1", 3 => "USR2"}[code]
    pid = pid!(server, name)
    {:ok, host_pid} = Tank.Runtime.host_pid(pid)

    # Until the script has set its traps, the signal has no effect.
    eventually("#{name} exits", fn ->
      System.cmd("kill", ["-#{signal}", "#{host_pid}"], stderr_to_stdout: true)
      not Process.alive?(pid)
    end)
  end

  def pid!(server, name) do
    eventually("#{name} runs", fn -> Reconciler.running(server)[name] end)
  end
end
