defmodule Tank.RunsTest do
  # The processes of an injected runtime: how they start, end, and outlive nobody.
  use ExUnit.Case, async: true

  import Tank.Acceptance, only: [start!: 3, pod: 4, pod: 3, run!: 2]
  import Tank.Wait

  alias Tank.{Injected, Workload}

  @moduletag capture_log: true

  setup do
    {:ok, dir: Tank.Scratch.dir!("runs"), rootfs: "/"}
  end

  defmodule OneShot do
    @moduledoc false
    # Over before anybody could monitor it.
    def child_spec({pod, _opts}), do: %{id: pod.name, start: {__MODULE__, :start_link, [pod]}}

    def start_link(%{containers: [%{command: ["crash"]}]}),
      do: Task.start_link(fn -> exit({:shutdown, {:workload_exited, 3}}) end)

    def start_link(_pod), do: Task.start_link(fn -> :ok end)
  end

  defmodule Ugly do
    @moduledoc false
    # Does in its init what its pod's name says.
    use GenServer

    def start_link({pod, _opts}), do: GenServer.start_link(__MODULE__, pod.name)

    @impl true
    def init("raises"), do: raise("no")
    def init("throws"), do: throw(:no)
    def init("ignores"), do: :ignore
    def init("dies"), do: Process.exit(self(), :kill)
    def init("kills-its-parent"), do: Process.exit(hd(Process.get(:"$ancestors")), :kill)

    def init("is-linked-to-a-crash") do
      {:ok, spawn_link(fn -> exit(:boom) end)}
    end
  end

  describe "a run that ends at once" do
    test "has its own exit reason", context do
      r = start!(:injected, context, runtime: OneShot)

      for n <- 1..20 do
        name = "p#{n}"
        :ok = Tank.apply(pod(context, name, ["end"], %{restart: :on_failure}), r)
        eventually("the end", fn -> match?(%{status: :terminal}, Tank.status(name, r)) end)
        assert %{last_exit: {:exited, 0}, retries: 0} = Tank.status(name, r)
      end

      :ok = Tank.apply(pod(context, "bad", ["crash"], %{restart: :never}), r)
      eventually("the end", fn -> match?(%{status: :terminal}, Tank.status("bad", r)) end)
      assert %{last_exit: {:exited, 3}} = Tank.status("bad", r)
      assert Tank.running(r) == %{}
    end
  end

  test "whatever a run's init does is a failed start of that pod alone", context do
    r = start!(:injected, context, runtime: Ugly, backoff_base: 60_000)
    server = Process.whereis(r)

    reasons = %{
      "throws" => {:bad_return_value, :no},
      "ignores" => :ignore,
      "dies" => :killed,
      "kills-its-parent" => :killed,
      "is-linked-to-a-crash" => :boom
    }

    for name <- ["raises" | Map.keys(reasons)], do: :ok = Tank.apply(pod(context, name, ["x"]), r)

    for {name, reason} <- reasons do
      eventually(name, fn -> match?(%{status: :backing_off}, Tank.status(name, r)) end)
      assert Tank.status(name, r).last_exit == {:error, reason}
    end

    eventually("raises", fn -> match?(%{status: :backing_off}, Tank.status("raises", r)) end)
    assert {:error, {%RuntimeError{message: "no"}, _stack}} = Tank.status("raises", r).last_exit
    assert Process.whereis(r) == server
    assert Tank.running(r) == %{}
  end

  test "a process that was seen to end is not running", context do
    r = start!(:injected, context, backoff_base: 1, backoff_cap: 1)
    run!(r, pod(context, "web", Workload.command(:injected)))

    for _ <- 1..100 do
      pid = Workload.pid!(r, "web")
      monitor = Process.monitor(pid)
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^monitor, _, _, _}
      refute Tank.running(r)["web"] == pid
    end
  end

  describe "never two runs of one pod" do
    for who <- [:program, :server] do
      test "when the #{who} is killed and the old run is slow to stop", context do
        r = start!(:injected, context, [])
        old = run!(r, pod(context, "web", Workload.stubborn(:injected)))
        server = Process.whereis(r)
        kill(unquote(who), server)

        new = eventually("another server", fn -> other_server(r, server) end)
        assert :ok = Tank.sync(new, 30_000)
        refute Process.alive?(old)
        assert map_size(Tank.running(new)) == 1
      end
    end

    defp kill(:server, server), do: Process.exit(server, :kill)

    defp kill(:program, server) do
      {_, 0} = System.cmd("kill", ["-9", "#{:sys.get_state(server).link.os_pid}"])
    end

    defp other_server(name, old) do
      new = Process.whereis(name)
      if new != old, do: new
    end
  end

  for on_shutdown <- [:stop, :keep] do
    test "none is left by an orderly end with #{on_shutdown}", context do
      r = start!(:injected, context, on_shutdown: unquote(on_shutdown))
      slow = run!(r, pod(context, "slow", Workload.stubborn(:injected)))
      :ok = Tank.apply(pod(context, "hung", Workload.hung(:injected)), r)
      eventually("the start", fn -> match?(%{status: :starting}, Tank.status("hung", r)) end)
      [%{supervisor: hung}] = Map.values(:sys.get_state(r).starts)

      {elapsed_ms, :ok} = timed(fn -> stop_supervised(r) end)
      refute Process.alive?(slow)
      refute Process.alive?(hung)
      # The slow one takes 2 s; the hung one does not add the time that runs have at most.
      assert elapsed_ms < 8_000
    end
  end

  test "runs that do not stop in time are killed, and nothing above them" do
    # With a name, as reconcilers have, since ancestors are listed by name.
    Process.flag(:trap_exit, true)
    name = :"runs_test_#{Tank.Scratch.unique()}"
    Process.register(self(), name)
    all = Injected.supervisor_of_all(name, 0)
    own = Injected.supervisor(all)
    {:ok, pod} = Tank.Pod.new(pod(%{rootfs: "/"}, "hung", Workload.hung(:injected)))
    starter = Injected.start({"hung", 1}, own, Tank.StubRuntime, pod, [])
    run = eventually("the run", fn -> own |> links() |> List.delete(all) |> List.first() end)

    assert :ok = Injected.stop_all(all, 50)
    for pid <- [all, own, run], do: refute(Process.alive?(pid))
    eventually("the starter's end", fn -> not Process.alive?(starter) end)

    # One run given up leaves the others' supervisor.
    all = Injected.supervisor_of_all(name, 0)
    own = Injected.supervisor(all)
    starter = Injected.start({"hung", 2}, own, Tank.StubRuntime, pod, [])
    eventually("the run", fn -> own |> links() |> List.delete(all) |> List.first() end)
    Injected.cancel({"hung", 2}, starter, own)
    assert_receive {Injected, :stopped, {"hung", 2}}
    refute Process.alive?(own)
    assert Process.alive?(all)
    assert :ok = Injected.stop_all(all, 5_000)
  end

  defp links(pid) do
    {:links, links} = Process.info(pid, :links)
    links
  end
end
