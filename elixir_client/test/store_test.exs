defmodule Tank.StoreTest do
  # A tree with a store of its own and a reconciler of another name, driven through `Tank`'s
  # functions without a server.
  use ExUnit.Case, async: false

  import Tank.Wait

  alias Tank.{Error, Reconciler, Store, StubRuntime}

  @moduletag capture_log: true

  setup_all do
    dir = Tank.Scratch.dir!("store")
    start_supervised!({Store, data_dir: Path.join(dir, "data"), run_dir: Path.join(dir, "run")})
    {:ok, dir: dir}
  end

  setup do
    for pod <- Tank.list(), do: :ok = Tank.delete(pod.name)
    :ok
  end

  defp start_reconciler!(opts \\ []) do
    defaults = [name: :store_test, runtime: StubRuntime, interval: :timer.hours(1)]
    backoff = [backoff_base: 20, backoff_cap: 200]
    start_supervised!({Reconciler, Keyword.merge(defaults ++ backoff, opts)})
  end

  defp pod(name, attrs \\ %{}) do
    Map.merge(%{name: name, containers: [%{name: "c", image: "alpine"}]}, attrs)
  end

  describe "with no reconciler" do
    test "pods are stored and read, and nothing runs" do
      assert :ok = Tank.apply(pod("b"))
      assert :ok = Tank.apply(pod("a", %{restart: :never}))
      assert [%Tank.Pod{name: "a", restart: :never}, %Tank.Pod{name: "b"}] = Tank.list()
      assert Tank.get("a") == Tank.Pod.new(pod("a", %{restart: :never}))
      assert Tank.running() == %{}
      assert Tank.nudge() == :ok
      assert Tank.delete("a") == :ok
      assert Tank.get("a") == {:error, :not_found}
    end

    test "a pod is created once" do
      assert :ok = Store.create_pod(Tank.Pod.new!(pod("a")))
      assert {:error, :exists} = Store.create_pod(Tank.Pod.new!(pod("a", %{restart: :never})))
      assert {:ok, %{restart: :always}} = Store.get_pod("a")
      assert :ok = Store.put_pod(Tank.Pod.new!(pod("a", %{restart: :never})))
      assert {:ok, %{restart: :never}} = Store.get_pod("a")
      assert :ok = Store.delete_pod("a")
      assert Store.list_pods() == []
    end

    test "its program's death costs one call at most" do
      :ok = Tank.apply(pod("a"))
      {_, 0} = System.cmd("kill", ["-9", "#{:sys.get_state(Store).link.os_pid}"])
      eventually("an answer", fn -> match?({:ok, %{name: "a"}}, Tank.get("a")) end)
    end
  end

  describe "with a reconciler" do
    test "what was stored before it starts" do
      :ok = Tank.apply(pod("web"))
      r = start_reconciler!()
      assert :ok = Reconciler.sync(r)
      assert %{"web" => pid} = Reconciler.running(r)
      assert Process.alive?(pid)
    end

    test "applied, changed and deleted through Tank" do
      r = start_reconciler!()
      :ok = Tank.apply(pod("web"))
      :ok = Reconciler.sync(r)
      %{"web" => pid1} = Reconciler.running(r)
      assert Tank.running() == %{"web" => pid1}
      assert %{status: :running} = Tank.status("web")
      assert %{"web" => %{status: :running, retries: 0}} = Tank.status()

      :ok = Tank.apply(pod("web", %{restart: :never}))
      :ok = Tank.sync()
      %{"web" => pid2} = Reconciler.running(r)
      assert pid2 != pid1
      refute Process.alive?(pid1)

      :ok = Tank.delete(Tank.Pod.new!(pod("web")))
      :ok = Reconciler.sync(r)
      assert Reconciler.running(r) == %{}
      refute Process.alive?(pid2)
    end

    test "retries climb one by one" do
      r = start_reconciler!()
      :ok = Tank.apply(pod("loop"))
      :ok = Reconciler.sync(r)

      retries =
        for _ <- 1..3 do
          pid = eventually("a run", fn -> Reconciler.running(r)["loop"] end)
          before = Reconciler.status(r)["loop"].retries
          Process.exit(pid, :kill)

          eventually("another retry", fn ->
            retries = Reconciler.status(r)["loop"].retries
            retries != before && retries
          end)
        end

      assert retries == [1, 2, 3]
    end

    test "a restart by hand resets the retries" do
      r = start_reconciler!()
      :ok = Tank.apply(pod("bounce"))
      :ok = Reconciler.sync(r)
      %{"bounce" => pid1} = Reconciler.running(r)
      GenServer.stop(pid1, {:shutdown, {:workload_signaled, 9}})
      eventually("a retry", fn -> Reconciler.status(r)["bounce"].retries == 1 end)

      assert :ok = Reconciler.restart_pod(r, "bounce")
      eventually("no retries", fn -> Reconciler.status(r)["bounce"].retries == 0 end)
      pid2 = eventually("another run", fn -> Reconciler.running(r)["bounce"] end)
      assert pid2 != pid1
      assert {:error, :not_found} = Reconciler.restart_pod(r, "nope")
    end

    test "an announced pid and a reason are shown, and the announcement is passed on" do
      r = start_reconciler!(owner: self())

      :ok =
        Tank.apply(pod("web", %{containers: [%{name: "c", image: "a", command: ["announce"]}]}))

      :ok = Reconciler.sync(r)
      assert_receive {:tank, "web", {:running, 4242}}
      assert %{status: :running, host_pid: 4242} = Reconciler.status(r)["web"]

      GenServer.stop(Reconciler.running(r)["web"], {:shutdown, {:workload_exited, 3}})
      assert_receive {:tank, "web", {:exited, 3}}
      eventually("the exit", fn -> Reconciler.status(r)["web"].last_exit == {:exited, 3} end)
    end

    test "a crash keeps its own reason" do
      r = start_reconciler!(owner: self(), backoff_base: 60_000, backoff_cap: 60_000)
      :ok = Tank.apply(pod("web"))
      :ok = Reconciler.sync(r)
      reason = {:badmatch, make_ref()}
      Process.exit(Reconciler.running(r)["web"], reason)
      assert_receive {:tank, "web", {:error, ^reason}}
      eventually("the wait", fn -> Reconciler.status(r)["web"].status == :backing_off end)
      assert Reconciler.status(r)["web"].last_exit == {:error, reason}
    end

    test "a failed start keeps its own reason" do
      r = start_reconciler!(owner: self(), backoff_base: 60_000, backoff_cap: 60_000)
      command = ["/nonexistent"]
      :ok = Tank.apply(pod("web", %{containers: [%{name: "c", image: "a", command: command}]}))
      :ok = Reconciler.sync(r)
      assert_receive {:tank, "web", {:error, :enoent}}
      assert Reconciler.status(r)["web"].last_exit == {:error, :enoent}
    end

    test ":shutdown from elsewhere is a crash that looks clean" do
      r = start_reconciler!(backoff_base: 60_000, backoff_cap: 60_000)
      :ok = Tank.apply(pod("web", %{restart: :on_failure}))
      :ok = Reconciler.sync(r)
      GenServer.stop(Reconciler.running(r)["web"], :shutdown)
      eventually("the wait", fn -> Reconciler.status(r)["web"].status == :backing_off end)
      assert Reconciler.status(r)["web"].last_exit == {:exited, 0}
    end

    test "a late exit of an older run is nothing" do
      r = start_reconciler!()
      :ok = Tank.apply(pod("web"))
      :ok = Reconciler.sync(r)
      :ok = Tank.restart("web")
      :ok = Reconciler.sync(r)
      %{"web" => pid} = Reconciler.running(r)
      assert %{incarnation: run} = Tank.status("web")

      :sys.replace_state(r, fn state ->
        %{state | link: Tank.Link.cast(state.link, :exited, {"web", run - 1, {:exited, 1}})}
      end)

      :ok = Reconciler.sync(r)
      assert Reconciler.running(r) == %{"web" => pid}
      assert %{status: :running, retries: 0, incarnation: ^run} = Tank.status("web")
    end

    test "the store belongs to one reconciler" do
      start_reconciler!()
      Process.flag(:trap_exit, true)

      assert {:error, %Error{code: :locked, message: message}} =
               Reconciler.start_link(name: :store_test_second, runtime: StubRuntime)

      assert message =~ "#PID"
    end

    test "one with the store's own data directory belongs to it", %{dir: dir} do
      :ok = Tank.apply(pod("web"))
      r = start_reconciler!(data_dir: Path.join(dir, "data"))
      assert :ok = Reconciler.sync(r)
      assert %{"web" => _pid} = Tank.running()
      assert [%{name: "web"}] = Store.list_pods()
    end

    test "one with a data directory of its own does not", %{dir: dir} do
      :ok = Tank.apply(pod("web"))
      r = start_reconciler!(data_dir: Path.join(dir, "other"))
      assert :ok = Reconciler.sync(r)
      assert Tank.list(r) == []
      assert [%{name: "web"}] = Tank.list()
    end

    test "one that is killed is followed by another, and nothing stored is lost" do
      r = start_reconciler!()
      :ok = Tank.apply(pod("web"))
      :ok = Reconciler.sync(r)
      %{"web" => old} = Reconciler.running(r)
      Process.exit(r, :kill)

      new =
        eventually("another reconciler", fn ->
          pid = Process.whereis(:store_test)
          pid != r && pid
        end)

      assert :ok = Reconciler.sync(new, 30_000)
      assert %{"web" => pid} = Tank.running()
      assert pid != old
      eventually("the old run is gone", fn -> not Process.alive?(old) end)
    end

    test "without it the store goes on" do
      start_reconciler!()
      :ok = Tank.apply(pod("web"))
      :ok = stop_supervised(Reconciler)
      assert {:ok, %{name: "web"}} = Tank.get("web")
      assert Tank.running() == %{}
    end
  end
end
