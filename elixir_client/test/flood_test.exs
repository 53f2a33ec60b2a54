defmodule Tank.FloodTest do
  # A reconciler that is held up while pods crash and crash again.
  use ExUnit.Case, async: true

  import Tank.Acceptance, only: [start!: 3, pod: 4]
  import Tank.Wait

  @moduletag capture_log: true
  @moduletag :privileged

  # What the reconciler gives.
  @credits 1_024
  @pods 4

  setup_all do
    {:ok, rootfs: Tank.Rootfs.build!(Tank.Scratch.dir!("rootfs"))}
  end

  setup do
    {:ok, dir: Tank.Scratch.dir!("flood")}
  end

  # Each run leaves a line, whoever listens.
  defp runs(dir) do
    for path <- Path.wildcard("#{dir}/data/logs/**/*.log"), reduce: 0 do
      count -> count + length(String.split(File.read!(path), "\n"))
    end
  end

  test "it is told no more than it gave credit for, and catches up", context do
    r = start!(:containers, context, backoff_base: 1, backoff_cap: 1)
    server = Process.whereis(r)
    command = ["/bin/sh", "-c", "echo run; exit 3"]
    for n <- 1..@pods, do: :ok = Tank.apply(pod(context, "p#{n}", command, %{}), r)

    :sys.suspend(server)
    before = runs(context.dir)
    # Each run is four notices and more.
    eventually("many runs", fn -> runs(context.dir) > before + div(@credits, 2) end, 60_000)
    {:message_queue_len, waiting} = Process.info(server, :message_queue_len)
    {:memory, bytes} = Process.info(server, :memory)
    assert waiting > div(@credits, 2)
    assert waiting < @credits + 50
    assert bytes < 16 * 1024 * 1024
    :sys.resume(server)

    for n <- 1..@pods, do: :ok = Tank.delete("p#{n}", r)
    :ok = Tank.sync(r, 30_000)
    assert Tank.running(r) == %{}
    eventually("nothing is left", fn -> Tank.status(r) == %{} end)
    assert Process.whereis(r) == server
  end
end
