# The same pass in plain Elixir: desired pods in an ETS table, observed runs in a
# list, and the difference of the two with maps and sets. Nothing has changed.
#
# usage: elixir benches/resync.exs COUNT...
# Prints a line for each count: the count and the median in microseconds.

defmodule Resync do
  def pass(table, runs) do
    desired = Map.new(:ets.select(table, [{{:"$1", :"$2", :_}, [], [{{:"$1", :"$2"}}]}]))
    observed = Map.new(runs, fn {name, generation, _incarnation} -> {name, generation} end)
    wanted = MapSet.new(Map.keys(desired))
    present = MapSet.new(Map.keys(observed))
    both = MapSet.intersection(wanted, present)

    %{
      start: MapSet.difference(wanted, present),
      stop: MapSet.difference(present, wanted),
      replace: Enum.filter(both, fn name -> desired[name] != observed[name] end)
    }
  end

  def median(count) do
    table = :ets.new(:desired, [:set, read_concurrency: true])
    names = for n <- 1..count, do: "pod-" <> String.pad_leading("#{n}", 6, "0")
    for name <- names, do: :ets.insert(table, {name, 1, spec(name)})
    runs = for {name, n} <- Enum.with_index(names, 1), do: {name, 1, n}
    rounds = max(10, min(200, div(1_000_000, count)))
    times = for _ <- 1..rounds, do: time(table, runs)
    :ets.delete(table)
    Enum.at(Enum.sort(times), div(rounds, 2))
  end

  defp time(table, runs) do
    {micros, difference} = :timer.tc(fn -> pass(table, runs) end)
    true = Enum.empty?(difference.start)
    true = Enum.empty?(difference.stop)
    [] = difference.replace
    micros
  end

  defp spec(name) do
    %{
      name: name,
      restart: :always,
      network: :none,
      volumes: [],
      containers: [
        %{
          name: "app",
          image: "registry.example.com/team/service:1.27",
          command: ["/usr/local/bin/service"],
          args: for(n <- 0..7, do: "--option-#{n}=value"),
          env: for(n <- 0..11, into: %{}, do: {"VARIABLE_#{n}", "value #{n}"}),
          limits: %{memory: 268_435_456, pids: 100}
        }
      ]
    }
  end
end

for count <- System.argv() do
  IO.puts("#{count} #{Resync.median(String.to_integer(count))}")
end
