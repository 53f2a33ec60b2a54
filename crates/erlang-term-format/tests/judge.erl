%% Makes random terms, has them read and written by the program on the other side of stdin and
%% stdout, and judges what comes back. Frames are {packet, 4}: a request is a byte for what to
%% do and its content, the answer is the content alone.
-module(judge).
-export([main/2, adder/1]).

-define(DONE, 0).
-define(ECHO, 1).
-define(SORT, 2).
-define(PRINT_ERLANG, 3).
-define(PARSE_ERLANG, 4).
-define(PRINT_ELIXIR, 5).
-define(PARSE_ELIXIR, 6).

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
    sort(Port, Term),
    print_erlang(Port, Term),
    print_elixir(Port, Term),
    Texts = case has_source(Term) of
        true -> texts(Term);
        false -> []
    end,
    lists:foreach(fun({What, Text}) -> parse(Port, Term, What, Text) end, Texts),
    length(Encodings) + length(Texts) + 3.

echo(Port, Term, Options, Sent) ->
    Got = call(Port, ?ECHO, Sent),
    Same = try binary_to_term(Got) =:= Term catch error:badarg -> false end,
    Same orelse mismatch({"not the same term", Options}, Term, Sent, Got),
    %% Without old encodings inside, what comes back is what OTP 26 writes.
    Exact = not has_opaque(Term) andalso Options =:= [{minor_version, 2}],
    (not Exact) orelse Got =:= Sent orelse mismatch("other bytes", Term, Sent, Got).

%% What comes back is sorted, whatever the order was that it was sent in.
sort(Port, Term) ->
    Wanted = term_to_binary(Term, [{minor_version, 2}, deterministic]),
    Got = call(Port, ?SORT, term_to_binary(Term)),
    (not has_source(Term)) orelse Got =:= Wanted
        orelse mismatch("not the deterministic bytes", Term, Wanted, Got).

print_erlang(Port, Term) ->
    Sent = term_to_binary(Term),
    Got = call(Port, ?PRINT_ERLANG, Sent),
    Same = try
        {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list([Got, ". "])),
        same(read(Tokens, has_source(Term)), Term)
    catch
        error:_ -> false
    end,
    Same orelse mismatch("printed text reads as another term", Term, Sent, Got).

%% A pid, port, reference or fun is the call that makes it.
read(Tokens, true) ->
    {ok, Term} = erl_parse:parse_term(Tokens),
    Term;
read(Tokens, false) ->
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    {value, Term, _} = erl_eval:exprs(Expressions, #{}),
    Term.

print_elixir(Port, Term) ->
    Sent = term_to_binary(Term),
    Got = call(Port, ?PRINT_ELIXIR, Sent),
    Same = has_long_atom(Term) orelse is_read_by_elixir(Got, Term),
    Same orelse mismatch("printed text is another term to Elixir", Term, Sent, Got).

is_read_by_elixir(Text, Term) ->
    try 'Elixir.Code':eval_string(Text) of
        {Read, _} -> same(Read, Term)
    catch
        error:_ -> false
    end.

%% -0.0 =:= 0.0 until OTP 27, and their bytes differ.
same(One, Other) ->
    One =:= Other andalso
        term_to_binary(One, [deterministic]) =:= term_to_binary(Other, [deterministic]).

parse(Port, Term, What, Sent) ->
    Got = call(Port, What, Sent),
    Same = try binary_to_term(Got) =:= Term catch error:badarg -> false end,
    Same orelse mismatch("text was read as another term", Term, Sent, Got).

mismatch(What, Term, Sent, Got) ->
    throw({mismatch, io_lib:format("~tp", [What]), Term, Sent, Got}).

call(Port, What, Content) ->
    port_command(Port, [What, Content]),
    receive
        {Port, {data, Answer}} -> Answer;
        {Port, eof} -> erlang:halt(1)
    end.

texts(Term) ->
    Erlang = [unicode:characters_to_binary(io_lib:format(Format, [Term]))
              || Format <- ["~p", "~tp", "~w", "~tw"]],
    Elixir = ['Elixir.Kernel':inspect(Term, [{limit, infinity}, {printable_limit, infinity} | More])
              || More <- [[], [{width, infinity}], [{charlists, as_lists}],
                          [{base, hex}], [{binaries, as_binaries}]]],
    %% Elixir's inspect/2 has its faults: what it does not read back itself is no example.
    [{?PARSE_ERLANG, Text} || Text <- Erlang]
        ++ [{?PARSE_ELIXIR, Text} || Text <- Elixir, is_read_by_elixir(Text, Term)].

options() ->
    Plain = [[], [compressed], [{minor_version, 0}], [{minor_version, 1}], [{minor_version, 2}],
             [compressed, {minor_version, 2}], [compressed, {minor_version, 0}],
             [deterministic], [deterministic, {minor_version, 2}]],
    Plain ++ [[{compressed, Level}] || Level <- lists:seq(0, 9)].

%% Opaque values: any tag but these may be inside of a value that only this node understands.
has_opaque(Term) ->
    any(fun(Each) ->
        is_pid(Each) orelse is_port(Each) orelse is_reference(Each) orelse is_function(Each)
    end, Term).

%% What the parsers can read as it is shown: no opaque values, but fun m:f/a.
has_source(Term) ->
    not any(fun(Each) ->
        is_pid(Each) orelse is_port(Each) orelse is_reference(Each)
            orelse (is_function(Each)
                    andalso erlang:fun_info(Each, type) =:= {type, local})
    end, Term).

%% Elixir does not read these back, although Erlang has them: it counts their bytes.
has_long_atom(Term) ->
    any(fun(Each) -> is_atom(Each) andalso byte_size(atom_to_binary(Each)) > 255 end, Term).

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
    %% To Elixir's tokenizer a quote or backslash behind one of these is a part of it.
    Prepended = [[C, $\"] || C <- lists:seq(16#80, 16#d7ff) ++ lists:seq(16#e000, 16#10fffd),
                            [[_ | _] | _] <- [unicode_util:gc([C, $\"])]],
    Clusters = [Term || Text <- Prepended ++ [[C, $\\] || [C, _] <- Prepended],
                        Term <- [list_to_atom(Text), unicode:characters_to_binary(Text),
                                 [{list_to_atom(Text), Text}]]],
    Others = [[a | b], [1, 2 | 3], [[[]]], "text", "é日本", [1 | <<1:1>>], #{1 => a, 1.0 => b},
              #{#{a => 1} => #{b => 2}, [x] => {y}}, {ok, [{a, #{}}]}, fun lists:map/2,
              adder(3), adder(#{a => [self()]}), self(), make_ref(), hd(erlang:ports()),
              list_to_pid("<0.1.0>"), remote_pid()],
    Integers ++ Lists ++ Tuples ++ Maps ++ Atoms ++ Floats ++ Bits ++ Clusters ++ Others.

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
