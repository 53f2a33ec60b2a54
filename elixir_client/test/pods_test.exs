defmodule Tank.PodsTest do
  # Pods of several containers, as a user sees them.
  use ExUnit.Case, async: true

  import Tank.Acceptance, only: [start!: 3, status?: 3]
  import Tank.Wait

  @moduletag :privileged
  @moduletag capture_log: true

  setup_all do
    {:ok, rootfs: Tank.Rootfs.build!(Tank.Scratch.dir!("rootfs"))}
  end

  setup do
    {:ok, dir: Tank.Scratch.dir!("data")}
  end

  defp container(context, name, script, attrs \\ %{}) do
    command = ["/bin/sh", "-c", script]
    Map.merge(%{name: name, image: {:rootfs, context.rootfs}, command: command}, attrs)
  end

  @serve "mkdir /srv; echo it works >/srv/index.html; exec httpd -f -p 127.0.0.1:80 -h /srv"
  @ask "until wget -qO /dev/null http://127.0.0.1/; do :; done"

  test "containers talk over loopback, and the one that ended is named", context do
    r = start!(:containers, context, [])

    containers = [
      container(context, "server", @serve),
      container(context, "client", @ask <> "; exit 7")
    ]

    :ok = Tank.apply(%{name: "web", restart: :never, containers: containers}, r)

    eventually("the end", fn -> status?(r, "web", status: :terminal) end)
    status = Tank.status("web", r)
    assert status.last_exit == {:exited, 7}
    assert status.last_exit_container == "client"
    assert status.reason =~ "container client exited with status 7"
  end

  test "a runtime process exits as the container that ended its run", context do
    r = start!(:containers, context, backoff_base: 60_000)
    ask = @ask <> "; exec sleep 1000"
    containers = [container(context, "server", @serve), container(context, "client", ask)]
    :ok = Tank.apply(%{name: "web", containers: containers}, r)
    :ok = Tank.sync(r)
    monitor = Process.monitor(Tank.running(r)["web"])
    %{containers: %{"client" => %{host_pid: client}}} = Tank.status("web", r)
    {_, 0} = System.cmd("kill", ["-KILL", "#{client}"])
    assert_receive {:DOWN, ^monitor, _, _, {:shutdown, {:workload_signaled, 9}}}, 20_000
  end

  test "a failed init container says so in the status", context do
    r = start!(:containers, context, [])

    :ok =
      Tank.apply(
        %{
          name: "web",
          restart: :never,
          init_containers: [container(context, "migrate", "exit 3")],
          containers: [container(context, "app", "exec sleep 1000")]
        },
        r
      )

    eventually("the end", fn -> status?(r, "web", status: :terminal) end)
    assert {:error, %Tank.Error{} = error} = Tank.status("web", r).last_exit
    assert error.code == :start_failed
    assert error.where.container == "migrate"
    assert error.message =~ "container migrate exited with status 3"
  end

  test "a pod is as it was applied, and what stops it can change in place", context do
    r = start!(:containers, context, [])

    spec = fn signal ->
      listen = "trap 'exit 1' TERM; trap 'exit 2' USR1; touch /ready; sleep 1000 & wait"
      app = container(context, "app", listen, %{stop_signal: signal, init: true})
      %{name: "web", containers: [app]}
    end

    :ok = Tank.apply(spec.("TERM"), r)
    :ok = Tank.sync(r)
    %{host_pid: host_pid} = Tank.status("web", r)
    eventually("the traps", fn -> File.exists?("/proc/#{host_pid}/root/ready") end)
    :ok = Tank.apply(spec.("sigusr1"), r)
    :ok = Tank.sync(r)
    assert %{host_pid: ^host_pid} = Tank.status("web", r)
    {:ok, pod} = Tank.get("web", r)
    assert [%Tank.Container{stop_signal: "USR1", init: true}] = pod.containers
    :ok = Tank.restart("web", r)
    :ok = Tank.sync(r)
    assert Tank.status("web", r).last_exit == {:exited, 2}
  end
end
