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
end
