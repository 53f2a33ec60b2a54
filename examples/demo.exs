# What `scripts/demo` runs: an Elixir session with Tank, each line shown as it
# would be typed, then its result.
#
# usage: mix run examples/demo.exs ROOTFS DIR

Code.require_file("session.exs", __DIR__)

defmodule Demo do
  @moduledoc false

  @doc "Asks the pod's web server from inside the pod's own network."
  def curl(host_pid) do
    url = "http://127.0.0.1/"
    curl = ["curl", "-sS", "--retry", "20", "--retry-connrefused", "--retry-delay", "0", url]
    {answer, 0} = System.cmd("nsenter", ["--net=/proc/#{host_pid}/ns/net" | curl])
    answer
  end
end

[rootfs, dir] = System.argv()

Session.run(
  [
    {:say, "The app starts Tank in its supervision tree: the loop and its port program."},
    """
    {:ok, sup} = Supervisor.start_link([{Tank.Reconciler, data_dir: dir, backoff_base: 500}],
      strategy: :one_for_one)
    """,
    {:say, "It describes a pod as plain data and applies it."},
    """
    web = %{name: "web", restart: :always,
      containers: [%{name: "app", image: {:rootfs, rootfs},
        command: ["/bin/sh", "-c", "echo $GREETING > /www/index.html; exec httpd -f -h /www"],
        env: %{"GREETING" => "hello, world"},
        limits: %{memory: 32 * 1024 * 1024, pids: 20}}]}
    """,
    "Tank.apply(web)",
    "Tank.sync()",
    "Tank.status()",
    {:say, "A real container runs. It has a network of its own, so we ask from inside."},
    ~S'pid = Tank.status()["web"].host_pid',
    "Demo.curl(pid)",
    {:say, "Its processes live in namespaces of their own."},
    ~S'System.cmd("readlink", for(ns <- ~w(pid net mnt uts ipc), do: "/proc/#{pid}/ns/#{ns}")) |> elem(0)',
    {:say, "The workload is killed. Tank waits out a backoff and starts it again."},
    ~S'System.cmd("kill", ["-9", "#{pid}"])',
    ~S'{:ok, _status} = Tank.await("web", :backing_off)',
    ~S'{:ok, _status} = Tank.await("web", :running)',
    ~S'Demo.curl(Tank.status()["web"].host_pid)',
    {:say, "The spec changes: the pod is restarted with the new one."},
    ~S'[app] = web.containers; app = put_in(app.env["GREETING"], "hello again")',
    "Tank.apply(%{web | containers: [app]})",
    "Tank.sync()",
    "Tank.status()",
    ~S'Demo.curl(Tank.status()["web"].host_pid)',
    {:say, "It is deleted, and gone."},
    ~S'pid = Tank.status()["web"].host_pid',
    ~S'Tank.delete("web")',
    "Tank.sync()",
    "Tank.status()",
    ~S'File.exists?("/proc/#{pid}")',
    "Supervisor.stop(sup)"
  ],
  rootfs: rootfs,
  dir: dir
)
