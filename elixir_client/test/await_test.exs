defmodule Tank.AwaitTest do
  # Who waits for a pod hears of it, and of nothing else.
  use ExUnit.Case, async: true

  import Tank.Acceptance, only: [start!: 3, run!: 2]
  import Tank.Wait

  alias Tank.{Error, Workload}

  @moduletag capture_log: true

  setup do
    {:ok, dir: Tank.Scratch.dir!("await"), rootfs: "/"}
  end

  defp pod(context, name, attrs \\ %{}, command \\ Workload.command(:injected)) do
    Tank.Acceptance.pod(context, name, command, attrs)
  end

  # Once the question is on its way, ahead of whatever is asked next.
  defp waiting(r, fun) do
    before = map_size(:sys.get_state(r).link.pending)
    task = Task.async(fun)

    eventually("the question is asked", fn ->
      map_size(:sys.get_state(r).link.pending) > before
    end)

    task
  end

  test "right after an apply the run of that spec is waited for", context do
    r = start!(:injected, context, [])

    for n <- 1..20 do
      :ok = Tank.apply(pod(context, "web", %{container: %{args: ["#{n}"]}}), r)
      assert {:ok, %{status: :running, incarnation: ^n}} = Tank.await("web", :running, server: r)
    end
  end

  test "a stop that takes long does not let the old run count", context do
    r = start!(:injected, context, [])
    run!(r, pod(context, "web", %{}, ["ignore"]))
    :ok = Tank.apply(pod(context, "web"), r)

    assert {:error, %Error{code: :timeout} = error} =
             Tank.await("web", :running, server: r, timeout: 1)

    assert error.message =~ "pod web is stopping, not running: restarting with a new spec"

    assert {:ok, %{status: :running, incarnation: 2, generation: 2}} =
             Tank.await("web", :running, server: r, timeout: 20_000)
  end

  test "a state that the pod is in is answered at once, and gone of what is not there", context do
    r = start!(:injected, context, [])
    run!(r, pod(context, "web"))

    assert {:ok, %{status: :running, host_pid: nil}} =
             Tank.await("web", :running, server: r, timeout: 0)

    assert Tank.await("db", :gone, server: r, timeout: 0) == {:ok, nil}
    assert Tank.await("db", :running, server: r) == {:error, :not_found}
    assert Tank.await("no/name", :running, server: r) == {:error, :not_found}
  end

  test "the status is what Tank.status gives", context do
    r = start!(:injected, context, [])
    :ok = Tank.apply(pod(context, "web", %{}, ["announce"]), r)
    assert {:ok, status} = Tank.await("web", :running, server: r)
    assert %{host_pid: 4242, started_at: %DateTime{}} = status
    keys = &(&1 |> Map.keys() |> Enum.sort())
    assert keys.(status) == keys.(Tank.status("web", r))
  end

  test "who waits for the end of a job is told how it ended", context do
    r = start!(:injected, context, [])
    run = run!(r, pod(context, "job", %{restart: :never}))
    task = waiting(r, fn -> Tank.await("job", :terminal, server: r, timeout: :infinity) end)
    Process.exit(run, :kill)
    assert {:ok, %{status: :terminal, last_exit: {:error, :killed}}} = Task.await(task)
  end

  test "a delete ends the wait of all, and gone comes when nothing is left", context do
    r = start!(:injected, context, [])
    run = run!(r, pod(context, "web"))
    terminal = waiting(r, fn -> Tank.await("web", :terminal, server: r, timeout: :infinity) end)
    gone = waiting(r, fn -> Tank.await("web", :gone, server: r, timeout: :infinity) end)
    :ok = Tank.delete("web", r)
    assert Task.await(terminal) == {:error, :not_found}
    assert Task.await(gone) == {:ok, nil}
    refute Process.alive?(run)
  end

  test "the timeout is the port program's, and says why", context do
    r = start!(:injected, context, backoff_base: 60_000, backoff_cap: 60_000)
    :ok = Tank.apply(pod(context, "web", %{}, ["/nonexistent"]), r)
    assert {:ok, %{retries: 1}} = Tank.await("web", :backing_off, server: r)
    {ms, result} = timed(fn -> Tank.await("web", :running, server: r, timeout: 50) end)
    assert {:error, %Error{code: :timeout, where: %{pod: "web"}, message: message}} = result
    assert message =~ "pod web is backing_off, not running: "
    assert message =~ "restarting in 60s"
    # The port program counts whole milliseconds.
    assert ms >= 49
  end

  test "the end of the port program ends every wait", context do
    r = start!(:injected, context, [])
    run!(r, pod(context, "web"))
    task = waiting(r, fn -> Tank.await("web", :terminal, server: r, timeout: :infinity) end)
    {_, 0} = System.cmd("kill", ["-9", "#{:sys.get_state(r).link.os_pid}"])
    assert {:error, %Error{code: :disconnected}} = Task.await(task)
  end

  test "an orderly stop refuses who waits", context do
    r = start!(:injected, context, [])
    run!(r, pod(context, "web"))
    task = waiting(r, fn -> Tank.await("web", :terminal, server: r, timeout: :infinity) end)
    :ok = stop_supervised(r)
    assert {:error, %Error{code: :shutting_down}} = Task.await(task)
  end

  test "a thousand who wait for one pod hear of it, and those of another do not", context do
    r = start!(:injected, context, [])
    for name <- ["web", "db"], do: run!(r, pod(context, name, %{restart: :never}))
    db = waiting(r, fn -> Tank.await("db", :terminal, server: r, timeout: :infinity) end)
    await = fn -> Tank.await("web", :terminal, server: r, timeout: 30_000) end
    tasks = for _ <- 1..1_000, do: Task.async(await)

    eventually("all wait", fn -> map_size(:sys.get_state(r).link.pending) == 1_001 end)
    Process.exit(Tank.running(r)["web"], :kill)
    for task <- tasks, do: assert({:ok, %{status: :terminal}} = Task.await(task, 30_000))
    assert Tank.await("db", :running, server: r, timeout: 0) |> elem(0) == :ok
    Process.exit(Tank.running(r)["db"], :kill)
    assert {:ok, %{status: :terminal}} = Task.await(db)
  end

  test "what is no state and no timeout is refused before anything is sent" do
    assert_raise ArgumentError, ~r/not a state: :asleep.*:backing_off/, fn ->
      Tank.await("web", :asleep)
    end

    assert_raise ArgumentError, ~r/not a timeout in milliseconds: -1/, fn ->
      Tank.await("web", :running, -1)
    end

    assert_raise ArgumentError, ~r/unknown keys/, fn -> Tank.await("web", :running, time: 1) end
  end
end
