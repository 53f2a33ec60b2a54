%%% A client of `tank port` in plain Erlang, and a session with it. The rest is in docs/protocol.md.
%%%     escript examples/tank_client.erl TANK ROOTFS [OPTION OF TANK PORT]...
-module(tank_client).
-export([start/2, call/3, next_notice/1, shutdown/1, atoms/0, main/1]).
-include("tank_atoms.hrl").

%% Starts the program and shakes hands.
start(Tank, Options) ->
    Port = open_port({spawn_executable, Tank},
                     [{args, ["port" | Options]}, {packet, 4}, binary, exit_status, use_stdio]),
    case next_frame(Port) of
        {hello, Hello} ->
            send(Port, {hello, #{protocol => 1, client => <<"tank_client.erl 1">>}}),
            {ok, Port, Hello};
        {error, Error} -> {error, Error}
    end.

%% Asks for an operation, and waits for {ok, Value} or {error, Error}.
call(Port, Op, Args) ->
    Id = erlang:unique_integer([positive, monotonic]),
    send(Port, {Id, Op, Args}),
    await(Port, Id).

%% Waits for a notice, and lets the program send another in its place.
next_notice(Port) ->
    SeqAndNotice = await(Port, notice),
    send(Port, {0, credit, 1}),
    SeqAndNotice.

%% Stops the pods, then the program: its exit status.
shutdown(Port) ->
    {ok, nil} = call(Port, shutdown, #{pods => stop}),
    receive {Port, {exit_status, Status}} -> Status end.

%% Waits for what came under this key, and sorts what comes meanwhile.
await(Port, Key) ->
    receive
        {came, Port, Key, What} -> What
    after 0 ->
        sort(Port, next_frame(Port)),
        await(Port, Key)
    end.

sort(Port, {notice, Seq, Notice}) -> self() ! {came, Port, notice, {Seq, Notice}};
sort(_, {0, {error, Error}}) -> exit(Error);
sort(_, {error, Error}) -> exit(Error);
sort(Port, {Id, {_, _} = Answer}) -> self() ! {came, Port, Id, Answer};
%% The rest comes with `--runtime client` only. Here a run is a process that waits for its end.
sort(Port, {Id, start, {Name, Incarnation, _Pod}}) ->
    put({Name, Incarnation}, spawn(timer, sleep, [infinity])),
    send(Port, {Id, {ok, #{host_pid => nil}}});
sort(Port, {Id, stop, Run}) ->
    kill(get(Run)),
    send(Port, {Id, {ok, nil}});
sort(Port, {0, kill, {Name, Incarnation} = Run}) ->
    kill(get(Run)),
    send(Port, {0, exited, {Name, Incarnation, {signaled, 9}}}).

kill(Pid) ->
    Ref = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Ref, process, Pid, _} -> ok end.

send(Port, Term) -> port_command(Port, term_to_binary(Term)).

next_frame(Port) ->
    receive
        {Port, {data, Frame}} -> binary_to_term(Frame, [safe]);
        {Port, {exit_status, Status}} -> exit({tank_ended, Status})
    end.

%% `safe` makes no atom: all that the program may send exist because they are named here.
atoms() -> ?TANK_ATOMS.

main([Tank, Rootfs | Options]) ->
    {ok, Port, _} = start(Tank, Options),
    App = #{name => <<"app">>, image => {rootfs, list_to_binary(Rootfs)},
            command => [<<"/bin/sleep">>, <<"1000">>]},
    show(Port, subscribe, #{credits => 6}),
    show(Port, apply, #{name => <<"web">>, containers => []}),
    show(Port, apply, #{name => <<"web">>, containers => [App]}),
    show_notices_until(Port, started),
    show(Port, sync, nil),
    show(Port, status, nil),
    show(Port, kill, {<<"web">>, 1}),
    show_notices_until(Port, ended),
    show(Port, restart, <<"web">>),
    show_notices_until(Port, started),
    show(Port, delete, <<"web">>),
    show_notices_until(Port, gone),
    show(Port, status, nil),
    io:format("exit ~b~n", [shutdown(Port)]).

show(Port, Op, Args) -> io:format("~s ~0tp~n", [Op, call(Port, Op, Args)]).

show_notices_until(Port, Kind) ->
    {Seq, Notice} = next_notice(Port),
    io:format("notice ~b ~0tp~n", [Seq, Notice]),
    is_tuple(Notice) andalso element(1, Notice) =:= Kind orelse show_notices_until(Port, Kind).
