defmodule Tank.OptionsTest do
  use ExUnit.Case, async: true

  alias Tank.{Error, Options, Reconciler}

  defmodule Stub do
    def child_spec(_args), do: %{}
  end

  defp argv(opts, mode \\ :container) do
    [data_dir: "/d", run_dir: "/r"]
    |> Keyword.merge(opts)
    |> Options.new!()
    |> Options.with_dirs(nil)
    |> Options.argv(mode)
  end

  test "a wrong option raises with its name and its rule" do
    wrong = [
      interval: 0,
      interval: :infinity,
      backoff_base: -1,
      backoff_cap: 1.5,
      stable_window: nil,
      name: nil,
      name: "tank",
      runtime: NoSuchModule,
      runtime: Enum,
      owner: :me,
      runtime_opts: %{},
      data_dir: "",
      data_dir: "a\0b",
      run_dir: :tmp,
      store: :disk,
      pods: %{},
      pods: [%{name: ".."}],
      on_shutdown: :drop,
      on_disconnect: {:stop, -1},
      on_disconnect: :drop,
      binary: 1
    ]

    for {key, value} <- wrong do
      assert_raise ArgumentError, ~r/#{key}.*expected/s, fn -> Options.new!([{key, value}]) end
    end
  end

  test "an unknown option raises and names the known ones" do
    assert_raise ArgumentError, ~r/unknown option :intervall.*:interval/s, fn ->
      Options.new!(intervall: 1)
    end

    assert_raise ArgumentError, ~r/keyword list/, fn -> Options.new!([1]) end
    assert_raise ArgumentError, ~r/__struct__/, fn -> Options.new!(__struct__: 1) end
  end

  test "a wrong seed is told with its rule" do
    assert_raise ArgumentError, ~r/pods.*:no_containers/s, fn ->
      Options.new!(pods: [%{name: "web"}])
    end
  end

  test "nothing is started with a wrong option" do
    assert_raise ArgumentError, fn ->
      Reconciler.start_link(interval: 0, binary: "/nonexistent")
    end

    assert_raise ArgumentError, fn -> Reconciler.child_spec(interval: 0) end
  end

  test "the default runtime's own options are checked, an injected one's are its own" do
    for {key, value} <- [stop_grace_ms: -1, shim: "", cgroup_parent: 1, stop_grace: 1] do
      assert_raise ArgumentError, ~r/runtime_opts: #{key}/, fn ->
        Options.new!(runtime_opts: [{key, value}])
      end
    end

    assert Options.new!(runtime: Stub, runtime_opts: [anything: 1]).runtime_opts == [anything: 1]
  end

  test "every option becomes a flag" do
    argv =
      argv(
        store: :memory,
        interval: 1,
        backoff_base: 2,
        backoff_cap: 3,
        stable_window: 4,
        on_disconnect: {:stop, 5},
        runtime_opts: [stop_grace_ms: 6, shim: "/s", cgroup_parent: "c"]
      )

    assert ["port" | flags] = argv
    pairs = flags |> Enum.chunk_every(2) |> Map.new(&List.to_tuple/1)

    assert pairs == %{
             "--data-dir" => "/d",
             "--run-dir" => "/r",
             "--store" => "memory",
             "--runtime" => "container",
             "--interval-ms" => "1",
             "--backoff-base-ms" => "2",
             "--backoff-cap-ms" => "3",
             "--stable-window-ms" => "4",
             "--on-disconnect" => "stop-after-ms=5",
             "--lock-wait-ms" => "2000",
             "--stop-grace-ms" => "6",
             "--shim" => "/s",
             "--cgroup-parent" => "c"
           }
  end

  test "options that are shown in a crash report show no specs" do
    pod = [name: "web", containers: [[name: "c", image: "a", env: %{"KEY" => "s3cret"}]]]
    options = Options.new!(pods: [pod], runtime_opts: [cgroup_parent: "s3cret"])
    assert inspect(options) =~ "on_shutdown"
    refute inspect(options) =~ "s3cret"
  end

  test "an injected runtime's options stay in the BEAM" do
    refute "--shim" in argv([runtime: Stub, runtime_opts: [shim: "/s"]], :client)
  end

  test "two data directories never share a run directory" do
    run_dir = fn data_dir -> Options.with_dirs(Options.new!(data_dir: data_dir), nil).run_dir end
    assert run_dir.("/a") != run_dir.("/b")
    assert run_dir.("/a") == run_dir.("/x/../a")
  end

  test "a data directory of its own wins over the store's" do
    assert Options.with_dirs(Options.new!(data_dir: "/own"), "/store").data_dir == "/own"
    assert Options.with_dirs(Options.new!([]), "/store").data_dir == "/store"
  end

  test "the supervisor waits longer than the pods may take to stop" do
    spec = Reconciler.child_spec(runtime_opts: [stop_grace_ms: 60_000])
    assert spec.id == Reconciler
    assert spec.type == :worker
    assert spec.shutdown > 60_000
  end

  describe "errors" do
    test "say what, where and what to do in one text" do
      error =
        Error.from_wire(%{
          code: :start_failed,
          message: "exec /bin/nope: no such file or directory",
          where: %{step: "exec", pod: "web", errno: "2"},
          hint: "check the command"
        })

      assert Exception.message(error) == """
             start_failed: exec /bin/nope: no such file or directory \
             (errno 2, pod web, step exec)
             hint: check the command\
             """
    end
  end
end
