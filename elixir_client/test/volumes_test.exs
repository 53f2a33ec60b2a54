defmodule Tank.VolumesTest do
  # A pod's data, as an app sees it.
  use ExUnit.Case, async: true

  import Tank.Acceptance, only: [start!: 2, pod: 4, run!: 2, status?: 3]
  import Tank.Wait

  @moduletag :privileged
  @moduletag capture_log: true

  setup do
    {:ok, dir: Tank.Scratch.dir!("data"), rootfs: Tank.Rootfs.build!(Tank.Scratch.dir!("rootfs"))}
  end

  defp counter(context, attrs) do
    script = "echo run >> /var/lib/counter/runs; exec /bin/busybox sleep 100000"
    mount = %{volume: "data", path: "/var/lib/counter"}
    {env, attrs} = Map.pop(attrs, :env, %{})
    defaults = %{volumes: [%{name: "data"}], container: %{mounts: [mount], env: env}}
    pod(context, "counter", ["/bin/sh", "-c", script], Map.merge(defaults, attrs))
  end

  defp runs(context) do
    file = Path.join(context.dir, "data/volumes/counter/data/runs")
    if File.exists?(file), do: file |> File.read!() |> String.split() |> length(), else: 0
  end

  test "what a pod stores is there in its next run, under another spec, and after its end",
       context do
    r = start!(:containers, context)
    run!(r, counter(context, %{}))
    eventually("the first run has written", fn -> runs(context) == 1 end)

    :ok = Tank.restart("counter", r)
    :ok = Tank.sync(r)
    eventually("the second has", fn -> runs(context) == 2 end)

    run!(r, counter(context, %{env: %{"A" => "b"}}))
    eventually("that of another spec has", fn -> runs(context) == 3 end)

    :ok = Tank.delete("counter", r)
    :ok = Tank.sync(r)
    assert runs(context) == 3

    run!(r, counter(context, %{}))
    eventually("a new pod of that name goes on", fn -> runs(context) == 4 end)
  end

  test "a pod reads back with its volumes", context do
    r = start!(:containers, context)
    volumes = [%{name: "data"}, %{name: "scratch", source: :tmpfs}]
    spec = counter(context, %{volumes: volumes})
    run!(r, spec)
    assert Tank.get("counter", r) == Tank.Pod.new(spec)
    assert {:ok, %{volumes: [_, %{source: {:tmpfs, 67_108_864}}]}} = Tank.get("counter", r)
  end

  test "a host path that is missing is told in the status", context do
    r = start!(:containers, context)
    missing = Path.join(context.dir, "none")
    :ok = Tank.apply(counter(context, %{volumes: [%{name: "data", source: {:host, missing}}]}), r)
    eventually("it is told", fn -> status?(r, "counter", status: :backing_off) end)

    assert %{reason: reason, last_exit: {:error, error}} = Tank.status("counter", r)
    assert reason =~ "open volume #{missing}: no such file or directory"
    assert %Tank.Error{code: :start_failed} = error
    assert %{step: "open_volume", path: ^missing, field: "volumes[0].source"} = error.where
  end
end
