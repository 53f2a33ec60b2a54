defmodule Tank.EndsTest do
  # Every way in which a BEAM ends, and what then becomes of its pods.
  use ExUnit.Case, async: true

  import Tank.Wait

  alias Tank.OtherBeam

  @moduletag :privileged
  @moduletag capture_log: true

  # Long enough to be told from no time at all.
  @alone_ms 500

  setup_all do
    {:ok, rootfs: Tank.Rootfs.build!(Tank.Scratch.dir!("rootfs"))}
  end

  setup do
    {:ok, dir: Tank.Scratch.dir!("ends")}
  end

  defp assert_untouched(beam) do
    OtherBeam.await_more(beam)
    assert OtherBeam.pod_alive?(beam)
    refute OtherBeam.said?(beam, "bye")
  end

  defp assert_stops_in_order(beam) do
    eventually("the pod has stopped", fn -> not OtherBeam.pod_alive?(beam) end)
    assert OtherBeam.said?(beam, "bye")
  end

  describe "kill -9 of the BEAM" do
    test "keeps pods, unless it was said otherwise", context do
      beam = OtherBeam.start!(context, [])
      OtherBeam.kill(beam)
      assert_untouched(beam)
    end

    test "stops them with on_disconnect: :stop", context do
      beam = OtherBeam.start!(context, on_disconnect: :stop)
      OtherBeam.kill(beam)
      assert_stops_in_order(beam)
    end

    test "stops them later with on_disconnect: {:stop, after_ms}", context do
      beam = OtherBeam.start!(context, on_disconnect: {:stop, @alone_ms})
      {took_ms, _} = timed(fn -> OtherBeam.kill(beam) && assert_stops_in_order(beam) end)
      assert took_ms >= @alone_ms
    end
  end

  describe "kill -9 of the BEAM and of the port program" do
    test "stops them with on_disconnect: :stop, though nobody is left to do it", context do
      beam = OtherBeam.start!(context, on_disconnect: :stop)
      System.cmd("kill", ["-9", beam.program_pid, beam.pid])
      assert_stops_in_order(beam)
    end
  end

  describe "a service manager" do
    # Every process of its cgroup in every hierarchy that there is.
    setup context do
      groups = for root <- hierarchies(), do: group!(root)
      join = Enum.map_join(groups, "\n", &"echo $$ > #{&1}/cgroup.procs")
      {:ok, Map.merge(context, %{groups: groups, join: join})}
    end

    test "that kills the BEAM's cgroup kills no pod, which is in none of it", context do
      beam = OtherBeam.start!(context, [], context.join)
      assert Enum.all?(context.groups, &(beam.pid in pids(&1)))
      refute Enum.any?(context.groups, &(beam.host_pid in pids(&1)))
      kill_groups(context.groups)
      System.cmd("kill", ["-9", beam.program_pid], stderr_to_stdout: true)
      assert_untouched(beam)
    end

    test "that does so stops them with on_disconnect: :stop", context do
      beam = OtherBeam.start!(context, [on_disconnect: :stop], context.join)
      kill_groups(context.groups)
      assert_stops_in_order(beam)
    end

    test "that sends SIGTERM to all of the cgroup ends the tree in order", context do
      beam = OtherBeam.start!(context, [], context.join)
      pids = context.groups |> Enum.flat_map(&pids/1) |> Enum.uniq()
      refute beam.program_pid in pids
      System.cmd("kill", ["-TERM" | pids])
      assert_stops_in_order(beam)
    end
  end

  describe "the end of the supervision tree" do
    test "stops pods, whatever becomes of them otherwise", context do
      beam = OtherBeam.start!(context, on_disconnect: {:stop, 3_600_000})
      assert OtherBeam.stop(beam) == 0
      refute OtherBeam.pod_alive?(beam)
      assert OtherBeam.said?(beam, "bye")
    end

    test "keeps them with on_shutdown: :keep, whatever becomes of them otherwise", context do
      beam = OtherBeam.start!(context, on_shutdown: :keep, on_disconnect: :stop)
      assert OtherBeam.stop(beam) == 0
      assert_untouched(beam)
    end
  end

  defp hierarchies do
    for line <- File.stream!("/proc/self/mountinfo"),
        line =~ ~r/ - cgroup2? /,
        do: line |> String.split(" ") |> Enum.at(4)
  end

  defp group!(root) do
    dir = Path.join(root, "service-#{System.pid()}-#{Tank.Scratch.unique()}")
    File.mkdir!(dir)

    # Without them a cpuset lets nobody in.
    for file <- ["cpuset.cpus", "cpuset.mems"],
        {:ok, all} <- [File.read(Path.join(root, file))],
        do: File.write!(Path.join(dir, file), all)

    on_exit(fn -> eventually("#{dir} is gone", fn -> File.rmdir(dir) == :ok end) end)
    dir
  end

  defp pids(group), do: group |> Path.join("cgroup.procs") |> File.read!() |> String.split()

  defp kill_groups(groups) do
    eventually("nothing is left in the cgroups", fn ->
      pids = groups |> Enum.flat_map(&pids/1) |> Enum.uniq()
      if pids != [], do: System.cmd("kill", ["-9" | pids], stderr_to_stdout: true)
      pids == []
    end)
  end
end
