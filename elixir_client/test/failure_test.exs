defmodule Tank.FailureTest do
  # The port program's death, two of them on one directory, and pods that cannot run.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog, only: [capture_log: 1]
  import Tank.Acceptance, only: [start!: 3, pod: 4, pod: 3, run!: 2]
  import Tank.Wait

  alias Tank.{Error, Workload}

  @moduletag capture_log: true

  setup_all do
    {:ok, rootfs: Tank.Rootfs.build!(Tank.Scratch.dir!("rootfs"))}
  end

  setup do
    {:ok, dir: Tank.Scratch.dir!("failure")}
  end

  defp kill_program(r) do
    old = Process.whereis(r)
    {_, 0} = System.cmd("kill", ["-9", "#{:sys.get_state(r).link.os_pid}"])

    eventually("another server", fn ->
      new = Process.whereis(r)
      new && new != old
    end)
  end

  # How many processes have this text among their arguments.
  defp processes_with(text) do
    Enum.count(Path.wildcard("/proc/[0-9]*/cmdline"), fn path ->
      case File.read(path) do
        {:ok, cmdline} -> text in String.split(cmdline, <<0>>)
        {:error, _gone} -> false
      end
    end)
  end

  defp status(server, name), do: Tank.status(name, server).status

  defp mounts_below(dir) do
    "/proc/self/mountinfo" |> File.read!() |> String.split("\n") |> Enum.count(&(&1 =~ dir))
  end

  # Its arguments are like nothing else's on this machine.
  defp marked_sleep, do: "9#{System.pid()}#{Tank.Scratch.unique()}"

  describe "kill -9 of the port program" do
    test "injected: the server starts again and so do the pods, each once", context do
      r = start!(:injected, context, [])
      old = run!(r, pod(context, "web", Workload.command(:injected)))
      kill_program(r)
      assert :ok = Tank.sync(r)
      assert %{"web" => new} = Tank.running(r)
      assert new != old
      eventually("the old run is gone", fn -> not Process.alive?(old) end)
    end

    @tag :privileged
    test "containers: the pods run again, none twice, and nothing is left", context do
      r = start!(:containers, context, [])
      marks = Map.new(1..3, fn n -> {"p#{n}", marked_sleep()} end)

      for {name, mark} <- marks do
        :ok = Tank.apply(pod(context, name, ["/bin/busybox", "sleep", mark]), r)
      end

      :ok = Tank.sync(r)
      mounts = mounts_below(context.dir)

      for _ <- 1..3 do
        kill_program(r)
        assert :ok = Tank.sync(r)
        assert r |> Tank.running() |> Map.keys() |> Enum.sort() == ["p1", "p2", "p3"]
        for {_name, mark} <- marks, do: assert(processes_with(mark) == 1)
        assert mounts_below(context.dir) == mounts
      end

      :ok = stop_supervised(r)
      for {_name, mark} <- marks, do: assert(processes_with(mark) == 0)
      assert mounts_below(context.dir) == 0
    end

    test "it is reported once, and the supervisor of runs goes quietly", context do
      r = start!(:injected, context, [])
      monitor = Process.monitor(:sys.get_state(r).supervisor)
      kill_program(r)
      assert_receive {:DOWN, ^monitor, :process, _pid, :shutdown}
    end

    test "a call that waits gets an error", context do
      r = start!(:injected, context, [])
      :ok = Tank.apply(pod(context, "hung", Workload.hung(:injected)), r)
      eventually("the start", fn -> match?(%{status: :starting}, Tank.status("hung", r)) end)
      sync = Task.async(fn -> Tank.sync(r, 30_000) end)
      eventually("the call", fn -> map_size(:sys.get_state(r).link.pending) == 1 end)

      {_, 0} = System.cmd("kill", ["-9", "#{:sys.get_state(r).link.os_pid}"])
      assert {:error, %Error{code: :disconnected}} = Task.await(sync)
    end

    test "what was applied is there afterwards", context do
      r = start!(:injected, context, [])
      for n <- 1..20, do: :ok = Tank.apply(pod(context, "p#{n}", ["run"]), r)
      kill_program(r)
      assert length(Tank.list(r)) == 20
    end
  end

  test "a second port program on one data directory is refused, with the first one's pid",
       context do
    r = start!(:injected, context, [])
    Process.flag(:trap_exit, true)
    data_dir = Path.join(context.dir, "data")
    opts = [name: :"#{r}_second", runtime: Tank.StubRuntime, data_dir: data_dir]

    assert {:error, %Error{code: :locked} = error} = Tank.Reconciler.start_link(opts)
    assert error.where.pid == "#{:sys.get_state(r).link.os_pid}"
    assert Tank.running(r) == %{}
  end

  @tag :privileged
  test "a pod that cannot run is told in the log, with advice, and a clean exit is not",
       context do
    r = start!(:containers, context, backoff_base: 60_000, backoff_cap: 60_000)

    log =
      capture_log(fn ->
        :ok = Tank.apply(pod(context, "no-such-command", ["/bin/nope"]), r)
        :ok = Tank.apply(pod(context, "clean-exit", ["/bin/busybox", "true"]), r)
        eventually("the failure", fn -> status(r, "no-such-command") == :backing_off end)
        eventually("the exit", fn -> status(r, "clean-exit") == :backing_off end)
        # Notices come before replies, so both have been handled.
        :ok = Tank.sync(r)
      end)

    assert log =~ "pod no-such-command: exec /bin/nope: no such file or directory, restarting in"
    assert log =~ "hint: the command is looked up in the container's root file system"
    refute log =~ "pod clean-exit"
  end

  test "a data directory that cannot be made is an error with its path", context do
    Process.flag(:trap_exit, true)
    file = Path.join(context.dir, "file")
    File.write!(file, "")
    opts = [name: :failure_test, runtime: Tank.StubRuntime, data_dir: Path.join(file, "data")]
    assert {:error, %Error{} = error} = Tank.Reconciler.start_link(opts)
    assert Exception.message(error) =~ file
  end

  describe "with nothing running" do
    test "a call is an error that says what to start" do
      assert {:error, %Error{code: :not_running, hint: hint}} = Tank.sync(:no_such_server)
      assert hint =~ "Tank.Reconciler"

      assert_raise Error, ~r/no_such_server is not running/, fn ->
        Tank.status(:no_such_server)
      end

      assert Tank.nudge(:no_such_server) == :ok
    end
  end

  describe "a pod that cannot run" do
    @describetag :privileged

    defp failed_start(context, command, container) do
      r = start!(:containers, context, backoff_base: 60_000, owner: self())
      :ok = Tank.apply(pod(context, "bad", command, %{container: container}), r)
      :ok = Tank.sync(r)
      assert_receive {:tank, "bad", {:error, %Error{} = told}}

      assert %{status: :backing_off, last_exit: {:error, %Error{} = error}} =
               Tank.status("bad", r)

      assert told.code == error.code
      assert Tank.status("bad", r).reason =~ error.message
      {error, Exception.message(error)}
    end

    test "for want of its root file system", context do
      {error, text} = failed_start(context, ["/bin/sh"], %{image: {:rootfs, "/nonexistent/root"}})
      assert error.code == :start_failed
      assert text =~ "/nonexistent/root"
      assert text =~ "o such file or directory"
    end

    test "for want of its command", context do
      {error, text} = failed_start(context, ["/bin/nope"], %{})
      assert error.code == :start_failed
      assert text =~ "/bin/nope"
      assert text =~ "o such file or directory"
      assert error.where.errno == "2"
    end

    test "because its command is no program", context do
      {error, text} = failed_start(context, ["/bin/data"], %{})
      assert error.code == :start_failed
      assert text =~ "/bin/data"
      assert text =~ "ermission denied"
    end

    test "because it names no command", context do
      {error, text} = failed_start(context, [], %{})
      assert error.code in [:start_failed, :unsupported]
      assert text =~ "command"
    end

    test "because it needs what is not there yet is refused at once", context do
      r = start!(:containers, context, [])
      bad = pod(context, "bad", ["/bin/sh"], %{container: %{image: "alpine:3.20"}})
      assert {:error, %Error{code: :unsupported, where: %{pod: "bad"}}} = Tank.apply(bad, r)
      assert Tank.list(r) == []
    end
  end

  describe "the process that stands for a run" do
    @describetag :privileged

    test "ends with the workload's exit status", context do
      r = start!(:containers, context, owner: self())
      pid = run!(r, pod(context, "web", Workload.command(:containers), %{restart: :never}))
      monitor = Process.monitor(pid)
      {:ok, host_pid} = Tank.Runtime.host_pid(pid)
      assert Tank.status("web", r).host_pid == host_pid
      assert_receive {:tank, "web", {:running, ^host_pid}}
      Workload.exit_with(:containers, r, "web", 3)
      assert_receive {:DOWN, ^monitor, _, _, {:shutdown, {:workload_exited, 3}}}
      assert_receive {:tank, "web", {:exited, 3}}
    end

    test "ends with the signal that ended the workload", context do
      r = start!(:containers, context, owner: self())
      pid = run!(r, pod(context, "web", Workload.command(:containers), %{restart: :never}))
      monitor = Process.monitor(pid)
      {:ok, host_pid} = Tank.Runtime.host_pid(pid)
      {_, 0} = System.cmd("kill", ["-9", "#{host_pid}"])
      assert_receive {:DOWN, ^monitor, _, _, {:shutdown, {:workload_signaled, 9}}}, 5_000
      assert_receive {:tank, "web", {:signaled, 9}}
    end

    test "ends with :shutdown when the pod is stopped", context do
      r = start!(:containers, context, [])
      monitor = Process.monitor(run!(r, pod(context, "web", Workload.command(:containers))))
      :ok = Tank.delete("web", r)
      :ok = Tank.sync(r)
      assert_receive {:DOWN, ^monitor, _, _, :shutdown}
    end

    test "takes the containers with it", context do
      r = start!(:containers, context, [])
      mark = marked_sleep()
      command = ["/bin/sh", "-c", "/bin/busybox sleep #{mark} & wait"]
      pid = run!(r, pod(context, "web", command, %{restart: :never}))
      eventually("the workload", fn -> processes_with(mark) == 1 end)
      GenServer.stop(pid)
      eventually("the crash", fn -> match?(%{status: :terminal}, Tank.status("web", r)) end)
      assert processes_with(mark) == 0
    end
  end

  @tag :privileged
  test "a stop that keeps the pods leaves them to the next start", context do
    r = start!(:containers, context, on_shutdown: :keep)
    mark = marked_sleep()
    run!(r, pod(context, "web", ["/bin/busybox", "sleep", mark]))
    :ok = stop_supervised(r)
    assert processes_with(mark) == 1

    again = start!(:containers, context, [])
    :ok = Tank.sync(again)
    assert %{"web" => _pid} = Tank.running(again)
    assert processes_with(mark) == 1
    :ok = stop_supervised(again)
    assert processes_with(mark) == 0
  end

  test "a crash loop never uses up the supervisor's patience", context do
    {:ok, supervisor} =
      Supervisor.start_link(
        [
          {Tank.Reconciler,
           name: :crash_loop,
           runtime: Tank.StubRuntime,
           data_dir: Path.join(context.dir, "data"),
           run_dir: Path.join(context.dir, "run"),
           backoff_base: 1,
           backoff_cap: 1}
        ],
        strategy: :one_for_one,
        max_restarts: 0
      )

    server = Process.whereis(:crash_loop)
    :ok = Tank.apply(pod(context, "web", ["run"]), server)
    :ok = Tank.apply(pod(context, "bad", ["/nonexistent"]), server)

    for _ <- 1..20 do
      server |> Workload.pid!("web") |> Process.exit(:kill)
    end

    eventually("many tries", fn -> Tank.status("bad", server).retries > 20 end)
    assert Process.whereis(:crash_loop) == server
    Supervisor.stop(supervisor)
  end
end
