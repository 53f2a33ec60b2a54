defmodule Tank.Signal do
  @moduledoc false

  # Signals as specs name them. The names and numbers are Linux's; the port
  # program has the same ones (`src/core/spec/signal.rs`).

  # Each at the place of its number, from 1 on.
  @standard ~w(
    HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP
    TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS
  )
  @aliases %{"IOT" => "ABRT", "CLD" => "CHLD", "POLL" => "IO"}

  # The first real-time signal that the C library leaves to programs, and the last.
  @rtmin 34
  @rtmax 64
  @real_time ["RTMIN" | for(steps <- 1..(@rtmax - @rtmin), do: "RTMIN+#{steps}")]

  # 32 and 33, which the C library keeps for itself, have none.
  @names Map.new(Enum.with_index(@standard, 1) ++ Enum.with_index(@real_time, @rtmin), fn
           {name, number} -> {number, name}
         end)

  @spellings @names
             |> Map.new(fn {_number, name} -> {name, name} end)
             |> Map.merge(@aliases)
             |> Map.put("RTMIN+0", "RTMIN")
             |> Map.put("RTMAX", @names[@rtmax])
             |> Map.merge(Map.new(0..(@rtmax - @rtmin), &{"RTMAX-#{&1}", @names[@rtmax - &1]}))

  @doc "The one spelling of a signal: its short name, or its number where it has none."
  @spec canonical(term()) :: {:ok, String.t() | 32..33} | :error
  def canonical(number) when is_integer(number) and number in 1..@rtmax,
    do: {:ok, Map.get(@names, number, number)}

  def canonical(text) when is_binary(text) do
    case String.upcase(text, :ascii) do
      "SIG" <> name -> Map.fetch(@spellings, name)
      name -> Map.fetch(@spellings, name)
    end
  end

  def canonical(_value), do: :error
end
