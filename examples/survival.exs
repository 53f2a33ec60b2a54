# What `scripts/demo-survival` runs, twice: an Elixir app with Tank in its supervision
# tree. The first time it starts a container and then does nothing until it is killed;
# the second time it finds the container as it is, deletes it and ends.
#
# usage: mix run examples/survival.exs first|again ROOTFS DIR
# It notes the container's pid in DIR/first and DIR/again.

Code.require_file("session.exs", __DIR__)

[turn, rootfs, dir] = System.argv()
data_dir = Path.join(dir, "data")

start = """
{:ok, sup} = Supervisor.start_link([{Tank.Reconciler, data_dir: data_dir}],
  strategy: :one_for_one)
"""

look = """
Map.take(Tank.status("clock"), [:status, :host_pid, :started_at, :incarnation])
"""

steps =
  case turn do
    "first" ->
      [
        {:say,
         "An Elixir app starts Tank in its supervision tree, and a container that says how old it is."},
        start,
        ~S"""
        script = "t=$(date +%s); while sleep 1; do echo up for $(($(date +%s) - t)) s; done"
        """,
        """
        Tank.apply(%{name: "clock", containers: [
          %{name: "app", image: {:rootfs, rootfs}, command: ["/bin/sh", "-c", script]}]})
        """,
        "Tank.sync()",
        look
      ]

    "again" ->
      [
        {:say,
         "The app is started again. Its Tank finds the container and takes it over, as it is."},
        start,
        ~S'{:ok, clock} = Tank.await("clock", :running)',
        "clock.host_pid",
        look
      ]
  end

bindings = Session.run(steps, turn: turn, rootfs: rootfs, data_dir: data_dir)
note = Path.join(dir, turn)
File.write!(note <> ".new", "#{Tank.status("clock").host_pid}")
File.rename!(note <> ".new", note)

# The first is killed here.
if turn == "first", do: Process.sleep(:infinity)

if IO.read(:line) != :eof do
  Session.run(
    [
      {:say, "It is the app's, as before: it deletes it, and it is gone."},
      ~S'Tank.delete("clock")',
      "Tank.sync()",
      "Tank.status()",
      "Supervisor.stop(sup)"
    ],
    bindings
  )
end
