%% Makes random terms, has them read and written by the program on the other side of stdin and
%% stdout, and judges what comes back. Frames are {packet, 4}: a request is a byte for what to
%% do and its content, the answer is the content alone.
-module(judge).
-export([main/2, adder/1]).

-define(DONE, 0).
-define(ECHO, 1).
-define(PRINT, 2).
-define(PARSE, 3).

main(Seed, Count) ->
    rand:seed(exsss, Seed),
    Port = open_port({fd, 0, 1}, [{packet, 4}, binary, eof]),
    Verdict =
        try
            Exact = [{minor_version, 2}],
            [echo(Port, Term, Exact, term_to_binary(Term, Exact)) || Term <- long()],
            Checks = lists:sum([judge(Port, Term) || Term <- fixed() ++ random(Count)]),
            io_lib:format("ok ~w", [Checks])
        catch
            throw:{mismatch, What, Term, Sent, Got} ->
                io_lib:format("~ts~nterm: ~tw~nsent: ~w~ngot:  ~w", [What, Term, Sent, Got]);
            Class:Reason:Stack ->
                io_lib:format("~p: ~tp~n~tp", [Class, Reason, Stack])
        end,
    port_command(Port, [?DONE, unicode:characters_to_binary(Verdict)]),
    %% The other side closes its end once it has read the verdict.
    receive {Port, eof} -> erlang:halt(0) end.

%% How many answers were right; throws the first that was not.
judge(Port, Term) ->
    Encodings = [{Options, term_to_binary(Term, Options)} || Options <- options()],
    lists:foreach(fun({Options, Sent}) -> echo(Port, Term, Options, Sent) end, Encodings),
    Texts = case has_source(Term) of
        true -> formats();
        false -> []
    end,
    Texts =/= [] andalso print(Port, Term),
    lists:foreach(fun(Format) -> parse(Port, Term, Format) end, Texts),
    length(Encodings) + length(Texts) + 1.

echo(Port, Term, Options, Sent) ->
    Got = call(Port, ?ECHO, Sent),
    Same = try binary_to_term(Got) =:= Term catch error:badarg -> false end,
    Same orelse mismatch({"not the same term", Options}, Term, Sent, Got),
    %% Without old encodings inside, what comes back is what OTP 26 writes.
    Exact = not has_opaque(Term) andalso Options =:= [{minor_version, 2}],
    (not Exact) orelse Got =:= Sent orelse mismatch("other bytes", Term, Sent, Got).

print(Port, Term) ->
    Sent = term_to_binary(Term),
    Got = call(Port, ?PRINT, Sent),
    Same = try
        {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list([Got, ". "])),
        {ok, Read} = erl_parse:parse_term(Tokens),
        %% -0.0 =:= 0.0 until OTP 27, and their bytes differ.
        Read =:= Term andalso term_to_binary(Read) =:= Sent
    catch
        error:_ -> false
    end,
    %% A large map may come back in another order, with other bytes.
    Loose = has_large_map(Term) andalso Same =:= false,
    Same orelse Loose orelse mismatch("printed text reads as another term", Term, Sent, Got).

parse(Port, Term, Format) ->
    Sent = unicode:characters_to_binary(io_lib:format(Format, [Term])),
    Got = call(Port, ?PARSE, Sent),
    Same = try binary_to_term(Got) =:= Term catch error:badarg -> false end,
    Same orelse mismatch({"text was read as another term", Format}, Term, Sent, Got).

mismatch(What, Term, Sent, Got) ->
    throw({mismatch, io_lib:format("~tp", [What]), Term, Sent, Got}).

call(Port, What, Content) ->
    port_command(Port, [What, Content]),
    receive
        {Port, {data, Answer}} -> Answer;
        {Port, eof} -> erlang:halt(1)
    end.

formats() -> ["~p", "~tp", "~w", "~tw"].

options() ->
    Plain = [[], [compressed], [{minor_version, 0}], [{minor_version, 1}], [{minor_version, 2}],
             [compressed, {minor_version, 2}], [compressed, {minor_version, 0}]],
    Levels = [[{compressed, Level}] || Level <- lists:seq(0, 9)],
    Plain ++ Levels ++ [Options || Options <- [[deterministic], [deterministic, {minor_version, 2}]],
                                   is_supported(Options)].

is_supported(Options) ->
    try is_binary(term_to_binary(a, Options)) catch error:badarg -> false end.

%% Opaque values: any tag but these may be inside of a value that only this node understands.
has_opaque(Term) ->
    any(fun(Each) ->
        is_pid(Each) orelse is_port(Each) orelse is_reference(Each) orelse is_function(Each)
    end, Term).

%% What the Erlang parser can read: no opaque values, but fun m:f/a.
has_source(Term) ->
    not any(fun(Each) ->
        is_pid(Each) orelse is_port(Each) orelse is_reference(Each)
            orelse (is_function(Each)
                    andalso erlang:fun_info(Each, type) =:= {type, local})
    end, Term).

has_large_map(Term) ->
    any(fun(Each) -> is_map(Each) andalso map_size(Each) > 32 end, Term).

any(Is, Term) ->
    Is(Term) orelse any_inside(Is, Term).

any_inside(Is, [Head | Tail]) -> any(Is, Head) orelse any(Is, Tail);
any_inside(Is, Tuple) when is_tuple(Tuple) -> any(Is, tuple_to_list(Tuple));
any_inside(Is, Map) when is_map(Map) -> any(Is, maps:to_list(Map));
any_inside(_, _) -> false.

%% Where one encoding of a list ends and another begins.
long() -> [lists:duplicate(Length, Byte) || Length <- [65534, 65535, 65536], Byte <- [7, 256]].

%% Every kind of term and every edge of an encoding.
fixed() ->
    Lengths = [0, 1, 2, 254, 255, 256, 257],
    Integers = [Sign * ((1 bsl Bits) + Off) || Sign <- [1, -1], Off <- [-1, 0, 1],
                Bits <- [0, 7, 8, 27, 31, 32, 59, 63, 64, 127, 128, 2040]],
    Lists = [lists:duplicate(Length, Byte) || Length <- Lengths, Byte <- [0, 255, 256, -1]],
    Tuples = [list_to_tuple(lists:duplicate(Length, a)) || Length <- [0, 1, 255, 256]],
    Maps = [maps:from_list([{N, N} || N <- lists:seq(1, Size)]) || Size <- [0, 1, 16, 17, 32, 33, 100]],
    Atoms = ['', a, 'A', nil, 'fun', 'maybe', 'ü', 'ÿ', 'Ā', '日本', 'a\nb', 'it\'s', '\\', '\x{0}', '%',
             list_to_atom(lists:duplicate(255, $a)), list_to_atom(lists:duplicate(255, $ü)),
             list_to_atom(lists:duplicate(255, 16#65e5)), list_to_atom(lists:duplicate(128, $ü))],
    Floats = [0.0, -0.0, 1.0, -1.5, 0.1, 1.0e20, 1.0e-7, 1.7976931348623157e308, 5.0e-324,
              2.2250738585072014e-308, 9007199254740993.0],
    Bits = [<<>>, <<0>>, <<"abc">>, <<"é"/utf8>>, <<233>>, <<"\n\t\\\"">>, <<0:1>>, <<5:3>>, <<1, 127:7>>,
            <<16#ffff:15>>, binary:copy(<<"x">>, 7000)],
    Others = [[a | b], [1, 2 | 3], [[[]]], "text", "é日本", [1 | <<1:1>>], #{1 => a, 1.0 => b},
              #{#{a => 1} => #{b => 2}, [x] => {y}}, {ok, [{a, #{}}]}, fun lists:map/2,
              adder(3), adder(#{a => [self()]}), self(), make_ref(), hd(erlang:ports()),
              list_to_pid("<0.1.0>"), remote_pid()],
    Integers ++ Lists ++ Tuples ++ Maps ++ Atoms ++ Floats ++ Bits ++ Others.

adder(N) -> fun(X) -> {X, N} end.

remote_pid() ->
    binary_to_term(<<131, 88, 119, 7, "far@dö"/utf8, 7:32, 1:32, 1700000000:32>>).

random(Count) -> [term(rand:uniform(4) - 1) || _ <- lists:seq(1, Count)].

term(0) -> leaf(rand:uniform(9));
term(Depth) ->
    case rand:uniform(14) of
        1 -> elements(Depth);
        2 -> elements(Depth) ++ term(Depth - 1);
        3 -> list_to_tuple(elements(Depth));
        4 -> map(Depth, rand:uniform(6) - 1);
        5 -> map(1, rand:uniform(40));
        6 -> {term(Depth - 1), term(Depth - 1)};
        7 -> [byte() || _ <- lists:seq(1, rand:uniform(20))];
        _ -> leaf(rand:uniform(9))
    end.

elements(Depth) -> [term(Depth - 1) || _ <- lists:seq(1, rand:uniform(5) - 1)].

map(Depth, Size) ->
    maps:from_list([{term(min(Depth - 1, 2)), term(Depth div 2)} || _ <- lists:seq(1, Size)]).

leaf(1) -> byte();
leaf(2) -> sign() * rand:uniform(1 bsl rand:uniform(70));
leaf(3) -> sign() * binary:decode_unsigned(rand:bytes(rand:uniform(300)));
leaf(4) -> float();
leaf(5) -> list_to_atom(text(rand:uniform(12) - 1));
leaf(6) -> rand:bytes(rand:uniform(40) - 1);
leaf(7) -> unicode:characters_to_binary(text(rand:uniform(30) - 1));
leaf(8) ->
    Size = rand:uniform(70),
    <<Bits:Size/bits, _/bits>> = rand:bytes(9),
    Bits;
leaf(9) ->
    case rand:uniform(8) of
        1 -> make_ref();
        2 -> adder(byte());
        3 -> self();
        _ -> text(rand:uniform(8))
    end.

byte() -> rand:uniform(256) - 1.

sign() -> 3 - 2 * rand:uniform(2).

float() ->
    case rand:uniform(2) of
        1 -> sign() * rand:uniform_real() * math:pow(10, rand:uniform(40) - 20);
        2 ->
            %% Any bits that are a number: a binary that is none does not match.
            case rand:bytes(8) of
                <<Float/float>> -> Float;
                _ -> float()
            end
    end.

text(Length) -> [character(rand:uniform(4)) || _ <- lists:seq(1, Length)].

character(1) -> $a + rand:uniform(26) - 1;
character(2) -> rand:uniform(127);
character(3) -> rand:uniform(255);
character(4) ->
    case rand:uniform(16#10ffff) of
        Surrogate when Surrogate >= 16#d800, Surrogate =< 16#dfff -> character(4);
        NoCharacter when NoCharacter band 16#fffe =:= 16#fffe -> character(4);
        Character -> Character
    end.
