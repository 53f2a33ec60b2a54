defmodule Tank.WireTest do
  # What the real port program says, byte by byte.
  use ExUnit.Case, async: true

  import Tank.Acceptance, only: [start!: 3, pod: 4]

  alias Tank.Workload

  @moduletag capture_log: true

  setup do
    {:ok, dir: Tank.Scratch.dir!("wire"), rootfs: "/"}
  end

  test "a list that no frame holds comes whole, and small calls come before it", context do
    r = start!(:injected, context, [])
    value = String.duplicate("v", 1024 * 1024)
    names = for n <- 1..20, do: "p#{n + 10}"

    for name <- names do
      env = %{container: %{env: %{"NAME" => name, "K" => value}}}
      :ok = Tank.apply(pod(context, name, Workload.command(:injected), env), r)
    end

    lists = for _ <- 1..3, do: Task.async(fn -> Tank.list(r) end)
    statuses = for name <- names, do: Task.async(fn -> Tank.status(name, r) end)
    for status <- statuses, do: assert(%{status: _} = Task.await(status))

    for list <- lists do
      pods = Task.await(list, 30_000)
      assert Enum.map(pods, & &1.name) == names

      for %{name: name, containers: [%{env: env}]} <- pods do
        assert env == %{"NAME" => name, "K" => value}
      end
    end
  end

  @page Path.expand("../../docs/protocol.md", __DIR__)
  @specs Path.expand("../../tests/cases/specs.terms", __DIR__)
  @external_resource @page

  defp section(title) do
    [_before, section] = @page |> File.read!() |> String.split("\n## #{title}\n")
    section |> String.split("\n## ") |> hd()
  end

  test "the protocol's page lists the atoms that are known here, and no others" do
    # Four blanks and a column of headings come before them.
    listed =
      for "    " <> line <- section("Atoms") |> String.split("\n"),
          atom <- line |> String.slice(12..-1//1) |> String.split(),
          into: MapSet.new(),
          do: String.trim(atom, "'")

    assert listed == MapSet.new(Tank.Wire.atoms(), &Atom.to_string/1)
  end

  test "every code of the protocol's page is documented here" do
    [table, _reasons] = String.split(section("Errors"), "### Reasons")
    codes = Regex.scan(~r/^\| `(\w+)` \|/m, table, capture: :all_but_first)
    assert length(codes) > 20
    {:docs_v1, _, _, _, %{"en" => doc}, _, _} = Code.fetch_docs(Tank.Error)
    for [code] <- codes, do: assert(doc =~ "| `:#{code}` |", code)
  end

  describe "all that the program can be made to say" do
    setup context do
      binary = [] |> Tank.Options.new!() |> Tank.Options.binary()
      args = ["port", "--store", "memory", "--runtime", "client"]

      options = [:binary, :exit_status, packet: 4, args: args]
      port = Port.open({:spawn_executable, String.to_charlist(binary)}, options)
      {:ok, frames: converse(port), dir: context.dir}
    end

    test "has no atoms but the known ones and the client's own", %{frames: frames} do
      known = MapSet.new(Tank.Wire.atoms())
      heard = for frame <- frames, do: :erlang.binary_to_term(frame)

      for term <- heard, new = MapSet.difference(atoms(term), known), MapSet.size(new) > 0 do
        assert {_id, {:error, %{code: :invalid_spec, reason: reason}}} = term
        assert MapSet.subset?(new, atoms(reason))
      end

      # What a client hears of in the course of things, so that this is about something.
      for atom <- ~w(hello protocol_min chunk notice started ended failed status gone resync start
                     stop kill exited signaled generation spec seq running backing_off terminal
                     unknown_op bad_args invalid_spec not_found exists handshake_required
                     malformed_frame runtime_failed)a do
        assert Enum.any?(heard, &(atom in atoms(&1))), "#{atom} was never said"
      end
    end

    test "makes no atom in a BEAM that knows those of the page", %{frames: frames, dir: dir} do
      known = MapSet.new(Tank.Wire.atoms())
      frames = Enum.filter(frames, &MapSet.subset?(atoms(:erlang.binary_to_term(&1)), known))
      File.write!("#{dir}/frames", :erlang.term_to_binary(frames))
      names = Enum.map(Tank.Wire.atoms(), &Atom.to_string/1)
      File.write!("#{dir}/atoms", :erlang.term_to_binary(names))

      script = """
      {ok, Names} = file:read_file("#{dir}/atoms"), {ok, File} = file:read_file("#{dir}/frames"),
      Atoms = [binary_to_atom(Name) || Name <- binary_to_term(Names)],
      Frames = binary_to_term(File),
      Count = fun() -> erlang:system_info(atom_count) end,
      Read = fun(Bytes) -> binary_to_term(Bytes) end,
      ReadSafely = fun(Bytes) -> try binary_to_term(Bytes, [safe]), true catch error:badarg -> false end end,
      Control = <<131, 119, 12, "never_spoken">>,
      Before = Count(),
      AreSafe = lists:all(ReadSafely, Frames),
      lists:foreach(Read, Frames),
      After = Count(),
      IsControlSafe = ReadSafely(Control),
      Read(Control),
      io:format("~p ~p ~p ~p ~p", [length(Frames), AreSafe, After - Before, IsControlSafe, Count() - After]),
      halt().
      """

      {printed, 0} = System.cmd("erl", ["-noshell", "-noinput", "-eval", script])
      # The control shows that a new atom would have been seen.
      assert printed == "#{length(frames)} true 0 false 1"
      assert length(frames) > 100
    end
  end

  # Every operation, notice and refusal that needs no container. Gives the
  # frames, and what came in chunks as the frames that they make.
  defp converse(port) do
    Process.put(:frames, [])
    {:hello, _about} = hear(port)
    {:error, %{code: :handshake_required}} = call(port, :list, nil)
    say(port, {:hello, %{protocol: 1, chunk_bytes: 1_024}})
    {:ok, %{seq: 0}} = call(port, :subscribe, %{credits: 10_000})
    {:ok, _} = call(port, :ping, {:ok, nil})

    work(port)
    refusals(port)

    {:ok, cases} = :file.consult(String.to_charlist(@specs))
    for {_sentence, spec, _expected} <- cases, do: call(port, :apply, spec)
    {:ok, pods} = call(port, :list, nil)
    for %{spec: %{name: name}} <- pods, do: {:ok, nil} = call(port, :delete, name)
    {:ok, nil} = call(port, :sync, nil)

    {:ok, _} = call(port, :subscribe, %{credits: 0})
    {:ok, _} = call(port, :apply, spec("missed"))
    {:ok, nil} = call(port, :sync, nil)
    say(port, {0, :credit, 10})
    hear_until(port, &match?({:notice, _seq, :resync}, &1))
    {:ok, nil} = call(port, :shutdown, %{pods: :stop})
    Enum.reverse(Process.get(:frames))
  end

  defp work(port) do
    {:ok, %{generation: 1}} = call(port, :apply, spec("web"))
    {:ok, %{}} = call(port, :create, spec("big", String.duplicate("v", 5_000)))
    {:error, %{code: :exists}} = call(port, :create, spec("web"))
    {:ok, _} = call(port, :get, "big")
    {:ok, nil} = call(port, :sync, nil)
    {:ok, _} = call(port, :status, nil)
    {:ok, %{"web" => %{incarnation: run}}} = call(port, :status, "web")
    {:ok, nil} = call(port, :restart, "web")
    {:ok, nil} = call(port, :sync, nil)
    {:error, %{code: :not_found}} = call(port, :kill, {"web", run})
    {:ok, %{"web" => %{incarnation: run}}} = call(port, :status, "web")
    {:ok, nil} = call(port, :kill, {"web", run})
    hear_until(port, &match?({0, :kill, {"web", ^run}}, &1))
    say(port, {0, :exited, {"web", run, {:signaled, 9}}})
    hear_until(port, &match?({:notice, _, {:ended, "web", ^run, {:signaled, 9}}}, &1))

    {:ok, _} = call(port, :apply, Map.put(spec("once"), :restart, :never))
    {:ok, nil} = call(port, :sync, nil)
    {:ok, %{"once" => %{incarnation: run}}} = call(port, :status, "once")
    say(port, {0, :exited, {"once", run, {:exited, 0}}})
    hear_until(port, &match?({:notice, _, {:status, "once", %{status: :terminal}}}, &1))

    waiting = %{pod: "once", state: :terminal, timeout_ms: nil}
    {:ok, %{"once" => %{status: :terminal}}} = call(port, :await, waiting)
    {:error, %{code: :timeout}} = call(port, :await, %{waiting | state: :running, timeout_ms: 0})

    {:ok, plans} = call(port, :plan, [spec("big"), spec("new"), spec("once")])
    [:replace, :create, :start] = for plan <- plans, do: plan.action
    {:ok, [%{action: :none}]} = call(port, :plan, [spec("web")])

    {:ok, _} = call(port, :apply, spec("fails"))
    hear_until(port, &match?({:notice, _, {:failed, "fails", _, _}}, &1))
  end

  defp refusals(port) do
    {:error, %{code: :unknown_op}} = call(port, :error, nil)
    {:error, %{code: :bad_args}} = call(port, :get, nil)
    {:error, %{code: :not_found}} = call(port, :get, "none")
    {:error, %{code: :not_found}} = call(port, :restart, "none")
    {:error, %{code: :bad_args}} = call(port, :await, %{pod: "none"})
    {:error, %{code: :bad_args}} = call(port, :plan, spec("web"))
    {:error, %{code: :invalid_spec}} = call(port, :plan, [spec("web"), spec("web")])
    say(port, {0, :credit, -1})
    say(port, {:hello, %{protocol: 1}})
    say(port, :hello)
    Port.command(port, <<131, 1>>)
    hear_until(port, &match?({0, {:error, %{code: :malformed_frame}}}, &1))
  end

  defp spec(name, value \\ "") do
    %{name: name, containers: [%{name: "c", image: "i", env: %{"K" => value}}]}
  end

  defp call(port, op, args) do
    id = System.unique_integer([:positive])
    say(port, {id, op, args})
    {^id, result} = hear_until(port, &match?({^id, _result}, &1))
    result
  end

  defp say(port, term), do: Port.command(port, :erlang.term_to_binary(term))

  defp hear_until(port, wanted?) do
    term = hear(port)
    if wanted?.(term), do: term, else: hear_until(port, wanted?)
  end

  # The next term; what the program asks for is done.
  defp hear(port) do
    assert_receive {^port, {:data, frame}}
    note(frame)

    case :erlang.binary_to_term(frame) do
      {id, :start, {"fails", _, _}} ->
        say(port, {id, {:error, %{message: "no"}}})
        hear(port)

      {id, op, _} = term when op in [:start, :stop] ->
        say(port, {id, {:ok, %{host_pid: 77}}})
        term

      {:chunk, id, more?, bytes} ->
        hear_chunk(port, id, more?, bytes)

      term ->
        term
    end
  end

  defp hear_chunk(port, id, more?, bytes) do
    so_far = Process.get({:chunks, id}, "") <> bytes
    Process.put({:chunks, id}, so_far)

    if more? do
      hear(port)
    else
      note(so_far)
      :erlang.binary_to_term(so_far)
    end
  end

  defp note(frame), do: Process.put(:frames, [frame | Process.get(:frames)])

  defp atoms(term), do: MapSet.new(atoms_in(term))

  defp atoms_in(atom) when is_atom(atom), do: [atom]
  defp atoms_in([head | tail]), do: atoms_in(head) ++ atoms_in(tail)
  defp atoms_in(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> atoms_in()
  defp atoms_in(map) when is_map(map), do: map |> :maps.to_list() |> atoms_in()
  defp atoms_in(_other), do: []
end
