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
  may hold. Each function here takes a server as its last argument, for a reconciler of another
  name. Without it, it is `Tank.Reconciler`, or `Tank.Store` when only that runs.

  Errors are `{:error, reason}` with the rule that a spec breaks, `:not_found`, or a
  `Tank.Error`. The functions that give plain data raise `Tank.Error`.
  """

  import Kernel, except: [apply: 2]

  alias Tank.{Error, Pod, Server, Status, Store}

  @type spec :: Pod.t() | map() | keyword()

  @call_ms 5_000

  @doc """
  Creates or replaces a pod. `:ok` once the spec is durable; the loop then acts on it.

      iex> Tank.apply(%{name: "no/name", containers: []})
      {:error, {:invalid_name, "no/name"}}
  """
  @spec apply(spec(), GenServer.server() | nil) :: :ok | {:error, term()}
  def apply(spec, server \\ nil), do: Store.put_pod(spec, server)

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

  @doc "Stops a pod's run and starts a new one now, with retries at 0."
  @spec restart(String.t(), GenServer.server() | nil) :: :ok | {:error, :not_found | Error.t()}
  def restart(name, server \\ nil) when is_binary(name) do
    Tank.Reconciler.restart_pod(server, name)
  end
end
