# The codec's peer in the BEAM: `binary_to_term/1` and `term_to_binary/1`, for which a client has
# no substitute. Terms are made on the heap of a process that has just collected its garbage.
#
# usage: elixir beam.exs DIR, with spec.etf and status.etf in DIR. Each line of input is a task:
#   decode|encode spec|status COUNT   answered with nanoseconds for COUNT times
#   check spec|status 1               reads, writes DIR/CASE.beam, and answers 0

defmodule Codec do
  def run("check", bytes, _count, path) do
    File.write!(path, :erlang.term_to_binary(:erlang.binary_to_term(bytes)))
    0
  end

  def run("decode", bytes, count, _path), do: timed(fn -> decode(bytes, count, nil) end)

  def run("encode", bytes, count, _path) do
    term = :erlang.binary_to_term(bytes)
    timed(fn -> encode(term, count, nil) end)
  end

  defp timed(work) do
    :erlang.garbage_collect()
    start = :erlang.monotonic_time(:nanosecond)
    work.()
    :erlang.monotonic_time(:nanosecond) - start
  end

  # The last result is carried along: the compiler drops a call of which nobody uses the result.
  defp decode(_bytes, 0, last), do: last
  defp decode(bytes, count, _last), do: decode(bytes, count - 1, :erlang.binary_to_term(bytes))

  defp encode(_term, 0, last), do: last
  defp encode(term, count, _last), do: encode(term, count - 1, :erlang.term_to_binary(term))
end

[dir] = System.argv()

for line <- IO.stream(:stdio, :line) do
  [what, name, count] = String.split(line)
  bytes = File.read!(Path.join(dir, name <> ".etf"))
  path = Path.join(dir, name <> ".beam")
  task = Task.async(fn -> Codec.run(what, bytes, String.to_integer(count), path) end)
  IO.puts(Task.await(task, :infinity))
end
