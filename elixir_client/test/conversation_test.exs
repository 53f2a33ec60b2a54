defmodule Tank.ConversationTest do
  # The client's side of the protocol, against a program that says what the test wants.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Tank.Wait

  alias Tank.{Error, FakeProgram, Reconciler}

  @moduletag capture_log: true

  @running %{status: :running, retries: 0, phase: :running, incarnation: 1, host_pid: 77}

  defp start!(fake, opts \\ []) do
    name = :"conversation_#{Tank.Scratch.unique()}"
    dir = Tank.Scratch.dir!("conversation")
    opts = [name: name, binary: fake.binary, data_dir: dir, run_dir: dir] ++ opts
    # Most of these programs never end by themselves.
    {changes, opts} = Keyword.pop(opts, :child, shutdown: :brutal_kill)
    child = Supervisor.child_spec({Reconciler, opts}, [restart: :temporary] ++ changes)
    pid = start_supervised!(child)
    %{pid: pid, name: name}
  end

  defp start_error(fake) do
    Process.flag(:trap_exit, true)
    dir = Tank.Scratch.dir!("conversation")
    name = :"conversation_#{Tank.Scratch.unique()}"
    Reconciler.start_link(name: name, binary: fake.binary, data_dir: dir, run_dir: dir)
  end

  defp os_pid(reconciler), do: :sys.get_state(reconciler.pid).link.os_pid
  defp kill_9(os_pid), do: {_, 0} = System.cmd("kill", ["-9", "#{os_pid}"])

  # A closed port waits until what was sent has been read.
  defp on_exit_kill(os_pid), do: on_exit(fn -> kill_9(os_pid) end)

  defp say_all(fake, terms), do: Enum.each(terms, &FakeProgram.say(fake, &1))

  describe "the start" do
    test "says hello, subscribes with credits and asks for the status" do
      fake = FakeProgram.ready!()
      start!(fake)

      assert [{:hello, hello}, {1, :subscribe, %{credits: credits}}, {2, :status, nil}] =
               eventually("three frames", fn ->
                 heard = FakeProgram.heard(fake)
                 length(heard) == 3 && heard
               end)

      assert %{protocol: 1, client: "tank-elixir " <> _version, chunk_bytes: 65_536} = hello
      assert credits > 0
    end

    test "a program of another protocol is refused, and both sides say what they speak" do
      for {about, theirs} <- [
            {%{protocol: 9}, "protocol 9 "},
            {%{protocol: 9, protocol_min: 2}, "protocol 2 to 9 "},
            {%{protocol: 0}, "protocol 0 "}
          ] do
        fake = FakeProgram.new!()
        FakeProgram.say(fake, {:hello, Map.put(about, :version, "9.0.0")})
        assert {:error, %Error{code: :protocol_mismatch, message: message}} = start_error(fake)
        assert message =~ theirs
        assert message =~ "this library 1"

        eventually("the program heard it", fn ->
          match?([{:hello, %{protocol: 1, protocol_min: 1}}], FakeProgram.heard(fake))
        end)
      end
    end

    test "a newer program that still speaks our protocol is spoken to in ours" do
      fake = FakeProgram.new!()

      say_all(fake, [
        {:hello, %{:protocol => 9, :protocol_min => 1, "said by a newer program" => [1]}},
        {1, {:ok, %{seq: 0, later: true}}},
        {2, {:ok, %{"web" => Map.put(@running, "later", 1)}}}
      ])

      reconciler = start!(fake)
      assert %{"web" => _pid} = Reconciler.running(reconciler.pid)

      eventually("the answer to its greeting", fn ->
        match?([{:hello, %{protocol: 1}} | _asked], FakeProgram.heard(fake))
      end)
    end

    test "an error in place of the hello is the reason" do
      fake = FakeProgram.new!()
      error = %{code: :not_permitted, message: "no", where: %{path: "/x"}, hint: "be root"}
      FakeProgram.say(fake, {:error, error})

      assert {:error, %Error{code: :not_permitted, where: %{path: "/x"}, hint: "be root"}} =
               start_error(fake)
    end

    test "a program that ends at once is an error with its status" do
      fake = FakeProgram.new!()
      FakeProgram.script!(fake.binary, "exit 7")
      assert {:error, %Error{code: :disconnected, message: message}} = start_error(fake)
      assert message =~ "status 7"
    end

    test "a program that is not there is an error with its path" do
      assert {:error, %Error{code: :disconnected, where: %{path: "/nonexistent/tank"}} = error} =
               start_error(%{binary: "/nonexistent/tank"})

      assert Exception.message(error) =~ "no such file"
    end

    test "a frame that is no hello is an error" do
      fake = FakeProgram.new!()
      FakeProgram.say_bytes(fake, "hello")
      assert {:error, %Error{code: :internal}} = start_error(fake)
    end

    test "seeds are created before the start is over, and one that exists is no error" do
      fake = FakeProgram.ready!()
      FakeProgram.say(fake, {3, {:error, %{code: :exists, message: "there"}}})
      FakeProgram.say(fake, {4, {:ok, %{generation: 1, changed: true}}})
      pods = for name <- ["a", "b"], do: %{name: name, containers: [%{name: "c", image: "i"}]}
      start!(fake, pods: pods)

      eventually("two creates", fn ->
        ["a", "b"] == for {_id, :seed, pod} <- FakeProgram.heard(fake), do: pod.name
      end)
    end
  end

  describe "notices" do
    test "a started run has a process, and its end is the process's exit reason" do
      for {exit, reason} <- [
            {{:exited, 0}, :normal},
            {{:exited, 3}, {:shutdown, {:workload_exited, 3}}},
            {{:signaled, 9}, {:shutdown, {:workload_signaled, 9}}}
          ] do
        fake = FakeProgram.ready!()
        reconciler = start!(fake, owner: self())
        FakeProgram.say(fake, {:notice, 1, {:started, "web", 1, 77}})
        assert_receive {:tank, "web", {:running, 77}}

        assert %{"web" => pid} = Reconciler.running(reconciler.pid)
        assert Tank.Runtime.host_pid(pid) == {:ok, 77}
        monitor = Process.monitor(pid)

        FakeProgram.say(fake, {:notice, 2, {:ended, "web", 1, exit}})
        assert_receive {:tank, "web", ^exit}
        assert_receive {:DOWN, ^monitor, :process, ^pid, ^reason}
        assert Reconciler.running(reconciler.pid) == %{}
        stop_supervised!(Reconciler)
      end
    end

    test "a run that is stopped on request ends with :shutdown" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake, owner: self())
      FakeProgram.say(fake, {:notice, 1, {:started, "web", 1, 77}})
      assert_receive {:tank, "web", {:running, 77}}
      monitor = Process.monitor(Reconciler.running(reconciler.pid)["web"])

      say_all(fake, [
        {:notice, 2, {:status, "web", %{@running | status: :stopping, phase: :deleting}}},
        {:notice, 3, {:ended, "web", 1, {:signaled, 15}}}
      ])

      assert_receive {:DOWN, ^monitor, :process, _pid, :shutdown}
    end

    test "the end of an older run leaves the newer one alone" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake, owner: self())

      say_all(fake, [
        {:notice, 1, {:started, "web", 2, 77}},
        {:notice, 2, {:ended, "web", 1, {:exited, 1}}}
      ])

      assert_receive {:tank, "web", {:exited, 1}}
      assert %{"web" => _pid} = Reconciler.running(reconciler.pid)
    end

    test "a failed start goes to the owner with its error" do
      fake = FakeProgram.ready!()
      start!(fake, owner: self())
      error = %{code: :start_failed, message: "exec: no", where: %{step: "exec"}, hint: nil}
      FakeProgram.say(fake, {:notice, 1, {:failed, "web", 1, error}})
      assert_receive {:tank, "web", {:error, %Error{code: :start_failed}}}
    end

    test "after a resync the processes agree with the status" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake, owner: self())
      for name <- ["a", "b", "c"], do: FakeProgram.say(fake, {:notice, 1, {:started, name, 1, 1}})
      assert_receive {:tank, "c", {:running, 1}}
      before = Reconciler.running(reconciler.pid)
      monitors = Map.new(before, fn {name, pid} -> {name, Process.monitor(pid)} end)

      # "a" is gone, "b" has a newer run, "c" ended, "d" is new.
      FakeProgram.say(fake, {:notice, 9, :resync})

      FakeProgram.say(
        fake,
        {3,
         {:ok,
          %{
            "b" => %{@running | incarnation: 2},
            "c" => %{@running | status: :backing_off} |> Map.put(:last_exit, {:exited, 3}),
            "d" => @running
          }}}
      )

      %{"a" => a, "b" => b, "c" => c} = monitors
      assert_receive {:DOWN, ^a, :process, _pid, :shutdown}
      assert_receive {:DOWN, ^b, :process, _pid, :shutdown}
      assert_receive {:DOWN, ^c, :process, _pid, {:shutdown, {:workload_exited, 3}}}

      running = Reconciler.running(reconciler.pid)
      assert Map.keys(running) == ["b", "d"]
      assert running["b"] != before["b"]
    end

    test "after dropped notices nobody is told less than what has settled" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake)
      sync = Task.async(fn -> Tank.sync(reconciler.pid) end)
      eventually("the sync", fn -> {3, :sync, nil} in FakeProgram.heard(fake) end)
      say_all(fake, [{:notice, 9, :resync}, {3, {:ok, nil}}])
      assert Task.await(sync) == :ok

      running = Task.async(fn -> Reconciler.running(reconciler.pid) end)
      eventually("who looks", fn -> length(:sys.get_state(reconciler.pid).lookers) == 1 end)
      FakeProgram.say(fake, {4, {:ok, %{"web" => @running}}})
      assert %{"web" => pid} = Task.await(running)
      assert Reconciler.running(reconciler.pid) == %{"web" => pid}

      FakeProgram.say(fake, {:notice, 10, :resync})
      eventually("the question", fn -> {5, :status, nil} in FakeProgram.heard(fake) end)
      running = Task.async(fn -> catch_error(Reconciler.running(reconciler.pid)) end)
      eventually("who looks", fn -> length(:sys.get_state(reconciler.pid).lookers) == 1 end)
      kill_9(os_pid(reconciler))
      assert %Error{code: :disconnected} = Task.await(running)
    end

    test "those of a newer program are nothing, and use a credit as all do" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake, owner: self())

      say_all(
        fake,
        for(n <- 1..600, do: {:notice, n, {:status, "web", "of", :another, ["shape"]}})
      )

      FakeProgram.say(fake, {:notice, 601, {:started, "web", 1, 77}})
      assert_receive {:tank, "web", {:running, 77}}
      assert %{"web" => _pid} = Reconciler.running(reconciler.pid)

      eventually("credits", fn ->
        Enum.any?(FakeProgram.heard(fake), &match?({0, :credit, _}, &1))
      end)
    end

    test "an error code that is new is told as it came" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake)
      get = Task.async(fn -> Tank.get("web", reconciler.pid) end)
      eventually("the call", fn -> {3, :get, "web"} in FakeProgram.heard(fake) end)
      FakeProgram.say(fake, {3, {:error, %{code: :running, message: "new", later: 1}}})
      assert {:error, %Error{code: :running, message: "new"}} = Task.await(get)
    end

    test "credits are given back as they are used" do
      fake = FakeProgram.ready!()
      start!(fake)
      for n <- 1..2_000, do: FakeProgram.say(fake, {:notice, n, {:gone, "x"}})

      eventually("most credits are back", fn ->
        given = for {0, :credit, n} <- FakeProgram.heard(fake), do: n
        Enum.sum(given) >= 1_024
      end)
    end

    test "ending a run's process asks for the run to be killed" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake, owner: self())
      FakeProgram.say(fake, {:notice, 1, {:started, "web", 5, 77}})
      assert_receive {:tank, "web", {:running, 77}}

      Process.exit(Reconciler.running(reconciler.pid)["web"], :kill)
      eventually("a kill", fn -> {3, :kill, {"web", 5}} in FakeProgram.heard(fake) end)
      assert Reconciler.running(reconciler.pid) == %{}
    end
  end

  describe "chunks" do
    defp say_chunk(fake, id, more?, bytes), do: FakeProgram.say(fake, {:chunk, id, more?, bytes})

    defp chunks(term, bytes) do
      for <<chunk::binary-size(bytes) <- :erlang.term_to_binary(term)>>, do: chunk
    end

    test "of several replies are put together, and other frames come between them" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake, owner: self())

      calls =
        for name <- ["a", "b", "c"], do: Task.async(fn -> Tank.get(name, reconciler.pid) end)

      ids =
        eventually("three calls", fn ->
          ids = for {id, :get, name} <- FakeProgram.heard(fake), into: %{}, do: {name, id}
          map_size(ids) == 3 && ids
        end)

      error = fn name -> {:error, %{code: :internal, message: name}} end
      [a, b] = for name <- ["a", "b"], do: :erlang.term_to_binary({ids[name], error.(name)})
      say_chunk(fake, ids["a"], true, "")
      say_chunk(fake, ids["a"], true, binary_part(a, 0, 10))
      say_chunk(fake, ids["b"], true, "")
      FakeProgram.say(fake, {:notice, 1, {:started, "web", 1, 77}})
      FakeProgram.say(fake, {ids["c"], {:error, %{code: :not_found, message: "none"}}})
      say_chunk(fake, ids["a"], true, binary_part(a, 10, 1))
      assert {:error, :not_found} = Task.await(Enum.at(calls, 2))
      assert_receive {:tank, "web", {:running, 77}}
      say_chunk(fake, ids["b"], false, b)
      assert {:error, %Error{message: "b"}} = Task.await(Enum.at(calls, 1))
      say_chunk(fake, ids["a"], false, binary_part(a, 11, byte_size(a) - 11))
      assert {:error, %Error{message: "a"}} = Task.await(Enum.at(calls, 0))
      assert :sys.get_state(reconciler.pid).link.chunks == %{}
    end

    test "what happens while a picture arrives is not undone by it" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake, owner: self())
      FakeProgram.say(fake, {:notice, 1, {:started, "old", 1, 1}})
      FakeProgram.say(fake, {:notice, 2, :resync})
      # Of before the picture: it is in it.
      FakeProgram.say(fake, {:notice, 3, {:started, "web", 1, 77}})
      picture = chunks({3, {:ok, %{"web" => @running, "old" => @running}}}, 1)
      say_chunk(fake, 3, true, "")
      for byte <- Enum.drop(picture, -1), do: say_chunk(fake, 3, true, byte)
      # Of after it: one that it does not have, one that it still has.
      FakeProgram.say(fake, {:notice, 4, {:started, "new", 2, 78}})
      FakeProgram.say(fake, {:notice, 5, {:ended, "old", 1, {:exited, 0}}})
      say_chunk(fake, 3, false, List.last(picture))
      assert_receive {:tank, "old", {:exited, 0}}
      assert reconciler.pid |> Reconciler.running() |> Map.keys() == ["new", "web"]
    end

    test "of nobody's reply, or broken ones, stop nothing but what they must" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake)
      monitor = Process.monitor(reconciler.pid)
      get = Task.async(fn -> Tank.get("web", reconciler.pid) end)
      eventually("the call", fn -> {3, :get, "web"} in FakeProgram.heard(fake) end)
      for more? <- [true, false], do: say_chunk(fake, 999, more?, "anything")
      # Another's reply under this id.
      say_chunk(fake, 3, false, :erlang.term_to_binary({4, {:ok, nil}}))
      assert {:error, %Error{code: :internal, message: message}} = Task.await(get)
      assert message =~ "no reply in chunks"
      assert_receive {:DOWN, ^monitor, :process, _pid, %Error{code: :internal}}
    end
  end

  describe "a program that misbehaves" do
    test "one that does not read holds up only who waits for its answer" do
      reconciler = start!(FakeProgram.deaf!(), on_shutdown: :keep, child: [])
      args = for _ <- 1..64, do: String.duplicate("x", 16_384)
      spec = %{name: "big", containers: [%{name: "c", image: "i", args: args}]}

      callers =
        for _ <- 1..5 do
          Task.async(fn ->
            catch_exit(GenServer.call(reconciler.pid, {:tank, :apply, spec}, 2_500))
          end)
        end

      {elapsed, running} = timed(fn -> Reconciler.running(reconciler.pid) end)
      assert running == %{}
      assert elapsed < 2_000
      for caller <- callers, do: assert({:timeout, _call} = Task.await(caller))
    end

    test "more than a limit is refused while it does not read" do
      reconciler = start!(FakeProgram.deaf!())
      on_exit_kill(os_pid(reconciler))
      big = String.duplicate("x", 15 * 1024 * 1024)

      for _ <- 1..8,
          do: send(reconciler.pid, {:"$gen_call", {self(), make_ref()}, {:tank, :get, big}})

      assert_receive {_ref, {:error, %Error{code: :busy}}}
      assert Reconciler.running(reconciler.pid) == %{}
    end

    test "a request that fits no frame is refused at once" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake)
      args = for _ <- 1..17, do: String.duplicate("x", 1024 * 1024)
      spec = %{name: "big", containers: [%{name: "c", image: "i", args: args}]}
      assert {:error, %Error{code: :frame_too_large}} = Tank.apply(spec, reconciler.pid)
    end

    test "one that dies gives every waiting call an error, and stops the server" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake)
      monitor = Process.monitor(reconciler.pid)
      calls = for _ <- 1..3, do: Task.async(fn -> Tank.get("web", reconciler.pid) end)

      eventually("three requests", fn ->
        length(for {_id, :get, "web"} <- FakeProgram.heard(fake), do: 1) == 3
      end)

      kill_9(os_pid(reconciler))

      for call <- calls do
        assert {:error, %Error{code: :disconnected, message: message}} = Task.await(call)
        assert message =~ "signal 9"
      end

      assert_receive {:DOWN, ^monitor, :process, _pid, %Error{code: :disconnected}}
      assert {:error, %Error{code: :not_running}} = Tank.sync(reconciler.name)
    end

    test "a frame with an atom that is new makes no atom and stops the server" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake)
      monitor = Process.monitor(reconciler.pid)
      new = "tank_never_seen_#{Tank.Scratch.unique()}"
      FakeProgram.say_bytes(fake, <<131, 119, byte_size(new), new::binary>>)

      assert_receive {:DOWN, ^monitor, :process, _pid, %Error{code: :internal}}
      assert_raise ArgumentError, fn -> String.to_existing_atom(new) end
    end

    test "a term of no known shape stops the server" do
      fake = FakeProgram.ready!()
      monitor = Process.monitor(start!(fake).pid)
      FakeProgram.say(fake, [:hello])
      assert_receive {:DOWN, ^monitor, :process, _pid, %Error{code: :internal}}
    end

    test "an answer that nobody waits for is nothing" do
      fake = FakeProgram.ready!()
      reconciler = start!(fake, owner: self())
      say_all(fake, [{999, {:ok, nil}}, {:notice, 1, {:started, "web", 1, 7}}])
      assert_receive {:tank, "web", {:running, 7}}
      assert Process.alive?(reconciler.pid)
    end
  end

  test "an orderly stop says what becomes of the pods, and waits" do
    for {on_shutdown, pods} <- [{:stop, :stop}, {:keep, :keep}] do
      fake = FakeProgram.ready!()
      ended = fake.says <> ".ended"

      # Ends by itself a moment after it was asked to.
      FakeProgram.script!(fake.binary, """
      exec 3<&0
      cat #{fake.says}
      cat <&3 >#{fake.hears} &
      until grep -q shutdown #{fake.hears} 2>/dev/null; do sleep 0.01; done
      touch #{ended}
      """)

      start!(fake, on_shutdown: on_shutdown, child: [])
      stop_supervised!(Reconciler)
      assert File.exists?(ended)
      assert {3, :shutdown, %{pods: pods}} == List.last(FakeProgram.heard(fake))
    end
  end

  test "an orderly stop that not every pod follows says which does not" do
    fake = FakeProgram.ready!()
    last = %{fake | says: fake.says <> ".last"}
    error = %{code: :stop_failed, message: "it lives on", where: %{pod: "web"}, hint: nil}
    FakeProgram.say(last, {3, {:error, error}})

    FakeProgram.script!(fake.binary, """
    exec 3<&0
    cat #{fake.says}
    cat <&3 >#{fake.hears} &
    until grep -q shutdown #{fake.hears} 2>/dev/null; do sleep 0.01; done
    cat #{last.says}
    """)

    start!(fake, child: [])
    log = capture_log(fn -> stop_supervised!(Reconciler) end)
    assert log =~ "not every pod was stopped: stop_failed: it lives on (pod web)"
  end
end
