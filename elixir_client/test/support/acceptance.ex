defmodule Tank.Acceptance do
  @moduledoc false

  # The loop as a user sees it. `use Tank.Acceptance, kind: kind` makes the same
  # tests for an injected runtime and for real containers; `pod: attrs` gives each
  # pod these attributes besides.

  use ExUnit.CaseTemplate

  using opts do
    quote do
      import Tank.Wait
      import Tank.Acceptance

      alias Tank.{Reconciler, Workload}

      @kind unquote(opts[:kind])
      @moduletag capture_log: true

      setup_all do
        rootfs = Tank.Rootfs.build!(Tank.Scratch.dir!("rootfs"))
        {:ok, rootfs: rootfs, pod: unquote(opts[:pod] || Macro.escape(%{}))}
      end

      setup do
        {:ok, dir: Tank.Scratch.dir!("data")}
      end

      unquote(tests())
    end
  end

  @doc "Starts a reconciler whose timers are out of the way unless a test sets them."
  def start!(kind, context, opts \\ []) do
    name = Keyword.get(opts, :name, :"acceptance_#{Tank.Scratch.unique()}")
    runtime = if kind == :injected, do: [runtime: Tank.StubRuntime], else: []

    defaults = [
      name: name,
      data_dir: Path.join(context.dir, "data"),
      run_dir: Path.join(context.dir, "run"),
      interval: :timer.hours(1),
      backoff_base: 20,
      backoff_cap: 200,
      stable_window: :timer.seconds(30)
    ]

    ExUnit.Callbacks.start_supervised!(
      {Tank.Reconciler, Keyword.merge(defaults ++ runtime, opts)},
      id: name
    )

    name
  end

  @doc "A pod of one container."
  def pod(context, name, command, attrs \\ %{}) do
    {container, attrs} = Map.pop(attrs, :container, %{})

    container =
      Map.merge(%{name: "c", image: {:rootfs, context.rootfs}, command: command}, container)

    %{name: name, containers: [container]}
    |> Map.merge(Map.get(context, :pod, %{}))
    |> Map.merge(attrs)
  end

  @doc "Applies, waits until it settled, gives the pid if it runs."
  def run!(server, pod) do
    :ok = Tank.apply(pod, server)
    :ok = Tank.sync(server)
    Tank.running(server)[pod.name]
  end

  @doc "Whether a pod's status has these values."
  def status?(server, name, values) do
    case Tank.status(name, server) do
      %{} = status -> Enum.all?(values, fn {key, value} -> status[key] == value end)
      {:error, :not_found} -> false
    end
  end

  # One quoted block, compiled once for each kind.
  defp tests do
    quote unquote: false do
      describe "desired and running" do
        test "a pod that was applied runs", context do
          r = start!(@kind, context)
          pid = run!(r, pod(context, "web", Workload.command(@kind)))
          assert Process.alive?(pid)
          assert status?(r, "web", status: :running, retries: 0, incarnation: 1)
        end

        test "a pod that was deleted is gone", context do
          r = start!(@kind, context)
          pid = run!(r, pod(context, "web", Workload.command(@kind)))
          assert :ok = Tank.delete("web", r)
          assert :ok = Tank.sync(r)
          assert Tank.running(r) == %{}
          assert Tank.status(r) == %{}
          refute Process.alive?(pid)
          assert Tank.get("web", r) == {:error, :not_found}
        end

        test "a pod whose spec changed is restarted with the new one", context do
          r = start!(@kind, context)
          old = run!(r, pod(context, "web", Workload.command(@kind)))

          new =
            run!(
              r,
              pod(context, "web", Workload.command(@kind), %{container: %{env: %{"A" => "b"}}})
            )

          assert new != old
          refute Process.alive?(old)
          assert Process.alive?(new)
          assert status?(r, "web", status: :running, retries: 0, incarnation: 2)
        end

        test "a pod that did not change is left alone", context do
          r = start!(@kind, context)
          web = pod(context, "web", Workload.command(@kind))
          pid = run!(r, web)
          assert run!(r, web) == pid
          Tank.nudge(r)
          assert :ok = Tank.sync(r)
          assert Tank.running(r) == %{"web" => pid}
          assert status?(r, "web", incarnation: 1)
        end

        test "five pods at once all run", context do
          r = start!(@kind, context)
          names = for n <- 1..5, do: "p#{n}"
          for name <- names, do: :ok = Tank.apply(pod(context, name, Workload.command(@kind)), r)
          assert :ok = Tank.sync(r)
          assert r |> Tank.running() |> Map.keys() |> Enum.sort() == names
          assert Enum.map(Tank.list(r), & &1.name) == names
        end

        test "a pod reads back as it was applied", context do
          r = start!(@kind, context)
          spec = pod(context, "web", Workload.command(@kind), %{container: %{env: %{"A" => "b"}}})
          run!(r, spec)
          assert Tank.get("web", r) == Tank.Pod.new(spec)
        end

        test "pods of another start of the server run again", context do
          r = start!(@kind, context)
          run!(r, pod(context, "web", Workload.command(@kind)))
          :ok = ExUnit.Callbacks.stop_supervised(r)
          again = start!(@kind, context)
          assert :ok = Tank.sync(again)
          assert %{"web" => pid} = Tank.running(again)
          assert Process.alive?(pid)
        end

        test "seeds are created unless they are there", context do
          seed = pod(context, "seed", Workload.command(@kind))
          r = start!(@kind, context, pods: [seed])
          assert :ok = Tank.sync(r)
          assert %{"seed" => _pid} = Tank.running(r)
          :ok = Tank.apply(Map.put(seed, :restart, :never), r)
          :ok = ExUnit.Callbacks.stop_supervised(r)

          again = start!(@kind, context, pods: [seed])
          assert {:ok, %{restart: :never}} = Tank.get("seed", again)
        end

        test "a seed that was deleted stays away, and only there", context do
          seed = pod(context, "seed", Workload.command(@kind))
          r = start!(@kind, context, pods: [seed, Map.put(seed, :name, "kept")])
          :ok = Tank.delete("seed", r)
          assert :ok = Tank.sync(r)

          r =
            for _twice <- 1..2, reduce: r do
              r ->
                :ok = ExUnit.Callbacks.stop_supervised(r)
                r = start!(@kind, context, pods: [seed, Map.put(seed, :name, "kept")])
                assert :ok = Tank.sync(r)
                assert [%{name: "kept"}] = Tank.list(r)
                assert %{"kept" => _pid} = Tank.running(r)
                r
            end

          :ok = ExUnit.Callbacks.stop_supervised(r)
          fresh = Map.update!(context, :dir, &Path.join(&1, "fresh"))
          r = start!(@kind, fresh, pods: [seed])
          assert :ok = Tank.sync(r)
          assert %{"seed" => _pid} = Tank.running(r)
        end
      end

      describe "events" do
        test "say why a pod restarted, also after another start of the server", context do
          # The wait counts from the end, and is to be seen though the machine is busy.
          r = start!(@kind, context, backoff_base: 2_000, backoff_cap: 2_000)
          assert {:error, :not_found} = Tank.events("web", r)
          old = run!(r, pod(context, "web", Workload.command(@kind)))
          Workload.exit_with(@kind, r, "web", 3)
          eventually("another run", fn -> other_run(r, "web", old) end)

          assert {:ok, [applied, first, ended, waits, second]} =
                   eventually("five events", fn ->
                     with {:ok, [_, _, _, _, _]} = events <- Tank.events("web", r), do: events
                   end)

          assert %{event: :applied, generation: 1, incarnation: 0, retries: 0} = applied
          assert %{event: :started, incarnation: run, host_pid: _pid} = first
          assert %{event: :ended, incarnation: ^run, exit: {:exited, 3}, container: nil} = ended
          assert %{event: :backing_off, retries: 1, retry_in_ms: wait, reason: reason} = waits
          assert wait in 1..2_000 and reason =~ "exited with status 3"
          assert %{event: :started, incarnation: next, retries: 1} = second
          assert next > run
          times = for event <- [applied, first, ended, waits, second], do: event.at
          assert times == Enum.sort(times, DateTime)

          :ok = ExUnit.Callbacks.stop_supervised(r)
          again = start!(@kind, context)

          assert {:ok, [^applied, ^first, ^ended, ^waits, ^second | more]} =
                   Tank.events("web", again)

          assert Enum.any?(more, &match?(%{event: :stopping, reason: "shutting down"}, &1))
          :ok = Tank.delete("web", again)
          assert {:error, :not_found} = Tank.events("web", again)
        end

        test "say why a start failed", context do
          r = start!(@kind, context)
          run!(r, pod(context, "web", ["/nonexistent"], %{restart: :never}))
          eventually("the end", fn -> status?(r, "web", status: :terminal) end)

          assert {:ok, [_applied, %{event: :failed} = failed, %{event: :terminal} = last]} =
                   Tank.events("web", r)

          assert {:error, %Tank.Error{}} = failed.exit
          assert last.reason =~ "not restarted"
        end
      end

      describe "the restart policy" do
        for policy <- [:always, :on_failure] do
          test "#{policy}: a crash is followed by another run", context do
            r = start!(@kind, context)
            web = pod(context, "web", Workload.command(@kind), %{restart: unquote(policy)})
            old = run!(r, web)
            Workload.crash(@kind, r, "web")
            new = eventually("another run", fn -> other_run(r, "web", old) end)
            assert Process.alive?(new)
            assert status?(r, "web", status: :running, retries: 1)
          end
        end

        test "never: a crash is the end", context do
          r = start!(@kind, context)
          run!(r, pod(context, "web", Workload.command(@kind), %{restart: :never}))
          Workload.crash(@kind, r, "web")
          eventually("the end", fn -> status?(r, "web", status: :terminal) end)
          assert :ok = Tank.sync(r)
          assert status?(r, "web", status: :terminal)
          assert Tank.running(r) == %{}
        end

        test "always: a clean exit is followed by another run", context do
          r = start!(@kind, context)
          old = run!(r, pod(context, "web", Workload.command(@kind), %{restart: :always}))
          Workload.exit_with(@kind, r, "web", 0)
          assert eventually("another run", fn -> other_run(r, "web", old) end)
          assert status?(r, "web", last_exit: {:exited, 0})
        end

        for policy <- [:on_failure, :never] do
          test "#{policy}: a clean exit is the end", context do
            r = start!(@kind, context)
            run!(r, pod(context, "web", Workload.command(@kind), %{restart: unquote(policy)}))
            Workload.exit_with(@kind, r, "web", 0)
            eventually("the end", fn -> status?(r, "web", status: :terminal) end)
            assert status?(r, "web", last_exit: {:exited, 0}, host_pid: nil)
            refute Map.has_key?(Tank.running(r), "web")
          end
        end

        test "on_failure: another exit status is a failure", context do
          r = start!(@kind, context)
          old = run!(r, pod(context, "web", Workload.command(@kind), %{restart: :on_failure}))
          Workload.exit_with(@kind, r, "web", 3)
          assert eventually("another run", fn -> other_run(r, "web", old) end)
          assert %{last_exit: {:exited, 3}, last_exit_at: %DateTime{}} = Tank.status("web", r)
        end

        for {policy, status} <- [always: :backing_off, on_failure: :backing_off, never: :terminal] do
          test "#{policy}: a start that fails leaves #{status}", context do
            r = start!(@kind, context, backoff_base: 60_000, backoff_cap: 60_000)
            run!(r, pod(context, "web", ["/nonexistent"], %{restart: unquote(policy)}))
            assert %{status: unquote(status), last_exit: {:error, reason}} = Tank.status("web", r)
            assert reason != nil
            assert Tank.running(r) == %{}
          end
        end

        test "a pod that cannot start leaves the others alone", context do
          r = start!(@kind, context)
          good = run!(r, pod(context, "good", Workload.command(@kind)))
          run!(r, pod(context, "bad", ["/nonexistent"]))
          eventually("several tries", fn -> Tank.status("bad", r).retries >= 3 end)
          assert Tank.running(r) == %{"good" => good}
        end
      end

      describe "backoff" do
        test "each wait is twice the one before, up to the cap", context do
          r = start!(@kind, context, backoff_base: 40, backoff_cap: 160)
          run!(r, pod(context, "web", Workload.command(@kind)))

          for {retries, wait_ms} <- [{1, 40}, {2, 80}, {3, 160}, {4, 160}, {5, 160}] do
            old = Workload.pid!(r, "web")
            Workload.crash(@kind, r, "web")
            eventually("another run", fn -> other_run(r, "web", old) end)
            status = Tank.status("web", r)
            assert status.retries == retries
            assert DateTime.diff(status.started_at, status.last_exit_at, :millisecond) >= wait_ms
          end
        end

        test "a pod that waits says until when", context do
          r = start!(@kind, context, backoff_base: 60_000, backoff_cap: 90_000)
          run!(r, pod(context, "web", Workload.command(@kind)))
          Workload.crash(@kind, r, "web")
          eventually("the wait", fn -> status?(r, "web", status: :backing_off) end)
          status = Tank.status("web", r)
          assert status.retries == 1
          assert status.retry_in_ms in 1..60_000
          assert DateTime.compare(status.restart_at, DateTime.utc_now()) == :gt
          assert is_binary(status.reason)
        end

        test "no wait is longer than the cap", context do
          r = start!(@kind, context, backoff_base: 60_000, backoff_cap: 50)
          old = run!(r, pod(context, "web", Workload.command(@kind)))
          Workload.crash(@kind, r, "web")
          assert eventually("another run", fn -> other_run(r, "web", old) end)
        end

        test "a stable run resets it", context do
          window_ms = 1_500
          r = start!(@kind, context, stable_window: window_ms)
          run!(r, pod(context, "web", Workload.command(@kind)))

          # On a loaded machine even a run that is to crash at once may last that long.
          eventually("two short runs", fn ->
            old = Workload.pid!(r, "web")
            Workload.crash(@kind, r, "web")
            eventually("another run", fn -> other_run(r, "web", old) end)
            status?(r, "web", retries: 2)
          end)

          old = Workload.pid!(r, "web")
          started_at = Tank.status("web", r).started_at

          eventually("a stable run", fn ->
            DateTime.diff(DateTime.utc_now(), started_at, :millisecond) > window_ms
          end)

          Workload.crash(@kind, r, "web")
          eventually("another run", fn -> other_run(r, "web", old) end)
          assert status?(r, "web", retries: 1)
        end

        test "a change starts at once, with retries 0", context do
          r = backing_off(@kind, context)
          new = run!(r, pod(context, "web", Workload.command(@kind), %{restart: :on_failure}))
          assert Process.alive?(new)
          assert status?(r, "web", status: :running, retries: 0)
        end

        test "an identical spec changes nothing", context do
          r = backing_off(@kind, context)
          assert run!(r, pod(context, "web", Workload.command(@kind))) == nil
          assert status?(r, "web", status: :backing_off, retries: 1)
        end

        test "a delete is the end of it", context do
          r = backing_off(@kind, context)
          assert :ok = Tank.delete("web", r)
          assert :ok = Tank.sync(r)
          assert Tank.status(r) == %{}
        end

        test "a restart by hand starts at once, with retries 0", context do
          r = backing_off(@kind, context)
          assert :ok = Tank.restart("web", r)
          assert :ok = Tank.sync(r)
          assert status?(r, "web", status: :running, retries: 0)
        end
      end

      describe "a terminal pod" do
        test "starts again when its spec changes", context do
          r = terminal(@kind, context)
          new = run!(r, pod(context, "web", Workload.command(@kind), %{restart: :always}))
          assert Process.alive?(new)
          assert status?(r, "web", status: :running, retries: 0)
        end

        test "stays terminal when the same spec is applied", context do
          r = terminal(@kind, context)
          assert run!(r, pod(context, "web", Workload.command(@kind), %{restart: :never})) == nil
          assert status?(r, "web", status: :terminal)
        end

        test "stays terminal over another start of the server", context do
          r = terminal(@kind, context)
          :ok = ExUnit.Callbacks.stop_supervised(r)
          again = start!(@kind, context)
          assert :ok = Tank.sync(again)
          assert status?(again, "web", status: :terminal)
          assert Tank.running(again) == %{}
        end

        test "is gone when it is deleted", context do
          r = terminal(@kind, context)
          assert :ok = Tank.delete("web", r)
          assert :ok = Tank.sync(r)
          assert Tank.status(r) == %{}
        end

        test "starts again by hand", context do
          r = terminal(@kind, context)
          assert :ok = Tank.restart("web", r)
          assert :ok = Tank.sync(r)
          assert status?(r, "web", status: :running)
        end
      end

      describe "stale exits" do
        test "the end of an older run is nothing to the newer", context do
          r = start!(@kind, context)
          old = run!(r, pod(context, "web", Workload.command(@kind)))
          # Both are under way at once: whichever is first, there is one run of the new spec.
          Process.exit(old, :kill)

          new =
            run!(
              r,
              pod(context, "web", Workload.command(@kind), %{container: %{env: %{"A" => "b"}}})
            )

          assert status?(r, "web", status: :running, retries: 0)
          assert Process.alive?(new)
        end

        test "a kill of an older run is refused", context do
          r = start!(@kind, context)
          run!(r, pod(context, "web", Workload.command(@kind)))

          new =
            run!(
              r,
              pod(context, "web", Workload.command(@kind), %{container: %{env: %{"A" => "b"}}})
            )

          assert {:error, %{code: :not_found}} = GenServer.call(r, {:tank, :kill, {"web", 1}})
          assert Tank.running(r) == %{"web" => new}
        end
      end

      describe "what was not found" do
        test "is told, and a delete of it is fine", context do
          r = start!(@kind, context)

          for name <- ["nope", "..", "a/b", "", String.duplicate("x", 64), "a\0"] do
            assert Tank.get(name, r) == {:error, :not_found}
            assert Tank.status(name, r) == {:error, :not_found}
            assert Tank.restart(name, r) == {:error, :not_found}
            assert Reconciler.restart_pod(r, name) == {:error, :not_found}
            assert Tank.delete(name, r) == :ok
          end
        end

        test "a wrong spec is refused with its rule, and nothing changes", context do
          r = start!(@kind, context)
          pid = run!(r, pod(context, "web", Workload.command(@kind)))
          assert Tank.apply(%{name: "web", containers: []}, r) == {:error, :no_containers}
          assert Tank.apply(:web, r) == {:error, {:invalid_pod_spec, :web}}
          assert :ok = Tank.sync(r)
          assert Tank.running(r) == %{"web" => pid}
        end
      end

      test "one of twenty never starts and one is slow to stop, and nobody waits for them",
           context do
        r = start!(@kind, context, crowd_opts(@kind, context))
        run!(r, pod(context, "stubborn", Workload.stubborn(@kind)))
        settle_stubborn(@kind, r)
        assert :ok = Tank.delete("stubborn", r)
        :ok = Tank.apply(pod(context, "hung", Workload.hung(@kind)), r)

        names = for n <- 1..18, do: "p#{n}"
        for name <- names, do: :ok = Tank.apply(pod(context, name, Workload.command(@kind)), r)

        eventually("18 run", fn -> names -- Map.keys(Tank.running(r)) == [] end)
        {elapsed_ms, statuses} = timed(fn -> Tank.status(r) end)
        assert elapsed_ms < 1_000
        assert statuses["hung"].status == :starting
        refute Map.has_key?(Tank.running(r), "hung")

        assert :ok = Tank.delete("hung", r)
        eventually("both are gone", fn -> Map.keys(Tank.status(r)) -- names == [] end, 20_000)
      end
    end
  end

  @doc "A run of the pod that is not the old one."
  def other_run(server, name, old) do
    pid = Tank.running(server)[name]
    if pid != old, do: pid
  end

  @doc "A server with pod web waiting for a minute."
  def backing_off(kind, context) do
    r = start!(kind, context, backoff_base: 60_000, backoff_cap: 60_000)
    run!(r, pod(context, "web", Tank.Workload.command(kind)))
    Tank.Workload.crash(kind, r, "web")
    Tank.Wait.eventually("the wait", fn -> status?(r, "web", status: :backing_off) end)
    r
  end

  @doc "A server with pod web at its end."
  def terminal(kind, context) do
    r = start!(kind, context)
    run!(r, pod(context, "web", Tank.Workload.command(kind), %{restart: :never}))
    Tank.Workload.crash(kind, r, "web")
    Tank.Wait.eventually("the end", fn -> status?(r, "web", status: :terminal) end)
    r
  end

  @doc "Options under which the pod called hung never finishes starting."
  def crowd_opts(:injected, _context), do: []

  def crowd_opts(:containers, context) do
    shim = Path.join(context.dir, "shim")
    real = Application.app_dir(:tank, "priv/tank-shim")

    Tank.FakeProgram.script!(shim, """
    case "$1" in
      */hung|*/hung/*|*/hung.*|*/hung-*) exec sleep 100000 ;;
    esac
    exec #{real} "$@"
    """)

    [runtime_opts: [shim: shim, stop_grace_ms: 2_000]]
  end

  @doc "Waits until a container ignores the stop signal."
  def settle_stubborn(:injected, _server), do: :ok

  def settle_stubborn(:containers, server) do
    host_pid = Tank.status("stubborn", server).host_pid

    Tank.Wait.eventually("the trap", fn ->
      [_all, ignored] = Regex.run(~r/SigIgn:\s+(\w+)/, File.read!("/proc/#{host_pid}/status"))
      Bitwise.band(String.to_integer(ignored, 16), 0x4000) != 0
    end)
  end
end
