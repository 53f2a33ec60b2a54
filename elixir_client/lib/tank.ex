defmodule Tank do
  @moduledoc """
  Keeps containers running the way you say they should.

  You state what should run, as data; a loop makes it so and keeps it so.

      Tank.apply(%{
        name: "web",
        containers: [%{name: "app", image: {:rootfs, "/srv/web"}, command: ["/bin/httpd", "-f"]}]
      })

      Tank.status("web").status
      #=> :running

      Tank.delete("web")

  `{Tank.Reconciler, opts}` in your supervision tree runs the loop; `Tank.Pod` says what a spec
  may hold. Each function here takes a server as its last argument (`await/3` among its options), for a
  reconciler of another name. Without it, it is `Tank.Reconciler`, or `Tank.Store` when only that runs.

  Errors are `{:error, reason}` with the rule that a spec breaks, `:not_found`, or a
  `Tank.Error`. The functions that give plain data raise `Tank.Error`.
  """

  import Kernel, except: [apply: 2]

  alias Tank.{Error, Event, Pod, Server, Status, Store}

  @type spec :: Pod.t() | map() | keyword()

  @type plan :: %{
          name: String.t(),
          action: :create | :none | :adjust | :replace | :start,
          changes: [String.t()],
          generation: pos_integer() | nil
        }

  @type state :: :starting | :running | :stopping | :backing_off | :terminal | :gone

  @call_ms 5_000
  # What a timer of the BEAM takes, with room for the answer to come.
  @timeout_ms_max 4_000_000_000
  @states [:starting, :running, :stopping, :backing_off, :terminal, :gone]

  @doc """
  Creates or replaces a pod. `:ok` once the spec is durable; the loop then acts on it.

      iex> Tank.apply(%{name: "no/name", containers: []})
      {:error, {:invalid_name, "no/name"}}
  """
  @spec apply(spec(), GenServer.server() | nil) :: :ok | {:error, term()}
  def apply(spec, server \\ nil), do: Store.put_pod(spec, server)

  @doc """
  What `apply/2` of a spec, or of each spec in a list, would do, without doing anything.

  Gives a map for each spec, in the same order:

    * `:name` - the pod's
    * `:action` - `:create` (there is no such pod), `:none`, `:adjust` (its run goes on by other
      limits, another policy or another way to be stopped), `:replace` (its run is ended and another
      started) or `:start` (nothing of it runs, since it backs off or is terminal, and it starts now)
    * `:changes` - the fields that differ from the spec that is desired, sorted, as
      `"containers[0].limits.memory"`
    * `:generation` - of the spec that is desired; `nil` of a pod that is not there

  For example, before a deployment:

      {:ok, plan} = Tank.plan(specs)
      for %{action: :replace} = pod <- plan, do: IO.puts("\#{pod.name}: \#{Enum.join(pod.changes, ", ")}")

  A spec that `apply/2` would refuse is an error here as well, the first of them: the whole plan is
  given or none. So are two specs of one name, `{:duplicate, names}`, and a pod that this runtime
  cannot run, a `Tank.Error` with code `:unsupported` that names the pod.

  A plan tells of one moment. What happens before the pods are applied is not in it, nor that a limit
  of a live run may turn out not to be changeable, which has the run replaced.

      iex> Tank.plan([%{name: "no/name", containers: []}])
      {:error, {:invalid_name, "no/name"}}
  """
  @spec plan(spec() | [spec()], GenServer.server() | nil) :: {:ok, [plan()]} | {:error, term()}
  def plan(specs, server \\ nil), do: Store.plan_pods(specs, server)

  @doc "Removes a pod; its containers are stopped. `:ok` also when there is none."
  @spec delete(String.t() | Pod.t(), GenServer.server() | nil) :: :ok | {:error, Error.t()}
  def delete(name_or_pod, server \\ nil)
  def delete(%Pod{name: name}, server), do: Store.delete_pod(name, server)
  def delete(name, server) when is_binary(name), do: Store.delete_pod(name, server)

  @doc "A pod as it was applied."
  @spec get(String.t(), GenServer.server() | nil) ::
          {:ok, Pod.t()} | {:error, :not_found | Error.t()}
  def get(name, server \\ nil) when is_binary(name), do: Store.get_pod(name, server)

  @doc "All pods as they were applied, sorted by name."
  @spec list(GenServer.server() | nil) :: [Pod.t()]
  def list(server \\ nil), do: Store.list_pods(server)

  @doc "The status of every tracked pod by name. See `Tank.Status`."
  @spec status() :: %{optional(String.t()) => Status.t()}
  def status, do: status(nil)

  @doc """
  With a name, that pod's status or `{:error, :not_found}`; with a server, all of its pods'.
  """
  @spec status(String.t()) :: Status.t() | {:error, :not_found}
  @spec status(GenServer.server() | nil) :: %{optional(String.t()) => Status.t()}
  def status(name) when is_binary(name), do: status(name, nil)
  def status(server), do: Tank.Reconciler.status(server)

  @doc "A pod's status by name on a server."
  @spec status(String.t(), GenServer.server() | nil) ::
          Status.t() | {:error, :not_found | Error.t()}
  def status(name, server) when is_binary(name) do
    with {:ok, {statuses, known}} <- Store.of_name(name, :status, @call_ms, server) do
      Status.from_wire(Map.fetch!(statuses, name), known[name])
    end
  end

  @doc """
  What happened to a pod, oldest first: its last 100 events, which outlive the port program and a
  reboot, for as long as there is the pod. See `Tank.Event`.

      # Why did it restart last night?
      {:ok, events} = Tank.events("web")
      for %{event: :ended} = event <- events, do: {event.at, event.exit}
      #=> [{~U[2025-03-02 03:12:09.481Z], {:signaled, 9}}]
  """
  @spec events(String.t(), GenServer.server() | nil) ::
          {:ok, [Event.t()]} | {:error, :not_found | Error.t()}
  def events(name, server \\ nil) when is_binary(name) do
    with {:ok, events} <- Store.of_name(name, :events, @call_ms, server) do
      {:ok, Enum.map(events, &Event.from_wire/1)}
    end
  end

  @doc "The running pods and the processes that stand for them. See `Tank.Runtime`."
  @spec running(GenServer.server() | nil) :: %{optional(String.t()) => pid()}
  def running(server \\ nil), do: Server.request!(server, :running, nil, @call_ms)

  @doc "Wakes the loop soon. Always `:ok`."
  @spec nudge(GenServer.server() | nil) :: :ok
  def nudge(server \\ nil) do
    Tank.Reconciler.nudge(server || Server.default() || Tank.Reconciler)
  end

  @doc "Waits until the loop has made what was applied so far come true. See `Tank.Reconciler.sync/2`."
  @spec sync(GenServer.server() | nil, timeout()) :: :ok | {:error, Error.t()}
  def sync(server \\ nil, timeout \\ 5_000), do: Tank.Reconciler.sync(server, timeout)

  @doc """
  Waits until a pod is in a state, and gives its status.

  The state is `:starting`, `:running`, `:stopping`, `:backing_off`, `:terminal`, or `:gone`: nobody
  wants the pod any more and nothing is left of it, of which the status is `nil`. A pod that is so
  already is answered at once.

      :ok = Tank.apply(%{name: "migrate", restart: :never, containers: containers})
      {:ok, %{last_exit: {:exited, 0}}} = Tank.await("migrate", :terminal, 60_000)

  What was applied before is what is waited for: no run of an older spec counts (its status has a lower
  `:generation`), nor one that is about to be restarted. A state that has come and gone before the call
  does not either, so a job is awaited to its `:terminal` state and not while it runs.

  Options, or the timeout alone:

    * `:timeout` - in milliseconds, or `:infinity`; 5000 by default
    * `:server` - a reconciler of another name

  Returns `{:error, :not_found}` when there is no such pod, or when it is deleted meanwhile, and
  `{:error, %Tank.Error{code: :timeout}}` with a message that says what the pod is instead, and why.
  """
  @spec await(String.t(), state(), timeout() | keyword()) ::
          {:ok, Status.t() | nil} | {:error, :not_found | Error.t()}
  def await(name, state, timeout_or_opts \\ [])

  def await(name, state, opts) when is_binary(name) and is_list(opts) do
    unless state in @states do
      raise ArgumentError, "not a state: #{inspect(state)}; a pod is one of #{inspect(@states)}"
    end

    opts = Keyword.validate!(opts, timeout: @call_ms, server: nil)
    timeout = opts[:timeout]

    unless timeout == :infinity or (is_integer(timeout) and timeout in 0..@timeout_ms_max) do
      raise ArgumentError, "not a timeout in milliseconds: #{inspect(timeout)}"
    end

    Tank.Reconciler.await_pod(opts[:server], name, state, timeout)
  end

  def await(name, state, timeout) when is_binary(name) do
    await(name, state, timeout: timeout)
  end

  @doc "Stops a pod's run and starts a new one now, with retries at 0."
  @spec restart(String.t(), GenServer.server() | nil) :: :ok | {:error, :not_found | Error.t()}
  def restart(name, server \\ nil) when is_binary(name) do
    Tank.Reconciler.restart_pod(server, name)
  end
end
