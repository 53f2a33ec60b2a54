defmodule Tank.Store do
  @moduledoc """
  The desired pods.

  They live in a data directory, which the port program owns. `{Tank.Store, data_dir: dir}` may
  stand in a supervision tree before `{Tank.Reconciler, opts}`:

      children = [
        {Tank.Store, data_dir: "/var/lib/my_app/tank"},
        Tank.Reconciler
      ]

  A reconciler without a `:data_dir` of its own, or with the same one, takes the store's. While none runs, pods can be
  stored and read all the same, and nothing is started. Without a `Tank.Store` these functions
  ask `Tank.Reconciler`.

  ## Options

    * `:data_dir` - as for `Tank.Reconciler`
    * `:binary` - path of the port program
    * `:store_id` - taken for the sake of older trees, and without effect
  """

  use GenServer

  alias Tank.{Error, Link, Options, Pod, Server, Wire}

  @call_ms 5_000
  @write_ms 30_000
  @close_ms_max 5_000

  defstruct options: nil, link: nil, reconciler: nil

  @doc "A child specification."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [opts]},
      type: :worker,
      shutdown: 2 * @close_ms_max
    }
  end

  @doc "Starts the store under the name `Tank.Store`."
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts \\ []) do
    opts = Keyword.delete(opts, :store_id)
    {known, other} = Keyword.split(opts, [:data_dir, :run_dir, :binary])

    if other != [] do
      raise ArgumentError, "unknown options of Tank.Store: #{inspect(Keyword.keys(other))}"
    end

    GenServer.start_link(__MODULE__, Options.new!(known), name: __MODULE__)
  end

  @doc "The desired pods, sorted by name. Raises `Tank.Error` when they cannot be read."
  @spec list_pods() :: [Pod.t()]
  def list_pods, do: list_pods(nil)

  @doc "A pod by name."
  @spec get_pod(String.t()) :: {:ok, Pod.t()} | {:error, :not_found | Error.t()}
  def get_pod(name), do: get_pod(name, nil)

  @doc "Stores a pod, whether or not there was one of that name."
  @spec put_pod(Pod.t() | map() | keyword()) :: :ok | {:error, term()}
  def put_pod(spec), do: put_pod(spec, nil)

  @doc "Stores a pod unless there is one of that name."
  @spec create_pod(Pod.t() | map() | keyword()) :: :ok | {:error, :exists | term()}
  def create_pod(spec) do
    case write(:create, spec, nil) do
      {:error, %Error{code: :exists}} -> {:error, :exists}
      result -> result
    end
  end

  @doc "Removes a pod; `:ok` also when there is none."
  @spec delete_pod(String.t()) :: :ok | {:error, Error.t()}
  def delete_pod(name), do: delete_pod(name, nil)

  @doc false
  @spec list_pods(Server.t()) :: [Pod.t()]
  def list_pods(server) do
    for %{spec: spec} <- Server.request!(server, :list, nil, @call_ms), do: Wire.to_pod!(spec)
  end

  @doc false
  @spec get_pod(String.t(), Server.t()) :: {:ok, Pod.t()} | {:error, :not_found | Error.t()}
  def get_pod(name, server) when is_binary(name) do
    with {:ok, %{spec: spec}} <- of_name(name, :get, @call_ms, server) do
      {:ok, Wire.to_pod!(spec)}
    end
  end

  @doc false
  @spec put_pod(Pod.t() | map() | keyword(), Server.t()) :: :ok | {:error, term()}
  def put_pod(spec, server), do: write(:apply, spec, server)

  @doc false
  @spec delete_pod(String.t(), Server.t()) :: :ok | {:error, Error.t()}
  def delete_pod(name, server) when is_binary(name) do
    case of_name(name, :delete, @write_ms, server) do
      {:ok, _nil} -> :ok
      {:error, :not_found} -> :ok
      {:error, error} -> {:error, error}
    end
  end

  @doc false
  @spec plan_pods(Tank.spec() | [Tank.spec()], Server.t()) :: {:ok, [map()]} | {:error, term()}
  def plan_pods(specs, server) do
    with {:ok, pods} <- to_pods(specs),
         {:ok, plans} <- Server.request(server, :plan, pods, @call_ms) do
      {:ok, plans}
    else
      {:error, reason} -> {:error, rule(reason)}
    end
  end

  # A keyword is one spec, and so is what is none of both.
  defp to_pods(specs) do
    one? = not is_list(specs) or (specs != [] and Keyword.keyword?(specs))
    to_pods(if(one?, do: [specs], else: specs), [])
  end

  defp to_pods([], pods), do: {:ok, Enum.reverse(pods)}

  defp to_pods([spec | specs], pods) do
    with {:ok, pod} <- to_pod(spec), do: to_pods(specs, [Wire.from_pod(pod) | pods])
  end

  @doc false
  # A request about one pod. What cannot be a name is the name of no pod.
  @spec of_name(String.t(), atom(), timeout(), Server.t()) ::
          {:ok, term()} | {:error, :not_found | Error.t()}
  def of_name(name, op, timeout, server), do: of_name(name, op, name, timeout, server)

  @doc false
  @spec of_name(String.t(), atom(), term(), timeout(), Server.t()) ::
          {:ok, term()} | {:error, :not_found | Error.t()}
  def of_name(name, op, args, timeout, server) do
    with {:ok, _name} <- Tank.Spec.name(name),
         {:ok, value} <- Server.request(server, op, args, timeout) do
      {:ok, value}
    else
      {:error, {:invalid_name, _name}} -> {:error, :not_found}
      {:error, %Error{code: :not_found}} -> {:error, :not_found}
      {:error, error} -> {:error, error}
    end
  end

  defp write(op, spec, server) do
    with {:ok, pod} <- to_pod(spec),
         {:ok, _generation} <- Server.request(server, op, Wire.from_pod(pod), @write_ms) do
      :ok
    else
      {:error, reason} -> {:error, rule(reason)}
    end
  end

  defp rule(%Error{code: :invalid_spec, reason: reason}) when reason != nil, do: reason
  defp rule(reason), do: reason

  defp to_pod(spec) when is_map(spec) or is_list(spec), do: Pod.new(spec)
  defp to_pod(other), do: {:error, {:invalid_pod_spec, other}}

  @doc false
  # Called by a reconciler that starts, with the data directory it was given. If
  # it was given none or the store's, the store gives it its own and lets go of it.
  @spec bind(Path.t() | nil) :: {:ok, Path.t() | nil} | {:error, Error.t()}
  def bind(data_dir) do
    GenServer.call(__MODULE__, {:bind, data_dir}, :infinity)
  catch
    :exit, {:noproc, _call} -> {:ok, data_dir}
  end

  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)
    {:ok, %__MODULE__{options: Options.with_dirs(options, nil)}}
  end

  @impl true
  def handle_call({:bind, other}, _from, %{options: %{data_dir: own}} = state)
      when other not in [nil, own] do
    {:reply, {:ok, other}, state}
  end

  def handle_call({:bind, _ours}, {pid, _tag}, %{reconciler: nil} = state) do
    state = close(state)
    {:reply, {:ok, state.options.data_dir}, %{state | reconciler: {pid, Process.monitor(pid)}}}
  end

  def handle_call({:bind, _ours} = call, from, %{reconciler: {pid, _monitor}} = state) do
    if Process.alive?(pid),
      do: {:reply, {:error, locked(pid, state)}, state},
      else: handle_call(call, from, unbind(state))
  end

  def handle_call({:tank, _op, _args} = call, from, %{reconciler: {pid, _monitor}} = state) do
    if Process.alive?(pid),
      do: {:reply, {:route, pid}, state},
      else: handle_call(call, from, unbind(state))
  end

  def handle_call({:tank, :running, nil}, _from, state), do: {:reply, {:ok, %{}}, state}

  def handle_call({:tank, op, args}, from, state) do
    with {:ok, link} <- open(state),
         {:ok, link} <- Link.request(link, op, args, {from, op}) do
      {:noreply, %{state | link: link}}
    else
      {:error, error} -> {:reply, {:error, error}, state}
    end
  end

  defp unbind(%{reconciler: {_pid, monitor}} = state) do
    Process.demonitor(monitor, [:flush])
    %{state | reconciler: nil}
  end

  defp locked(pid, state) do
    %Error{
      code: :locked,
      message: "Tank.Store belongs to the reconciler #{inspect(pid)} already",
      where: %{path: state.options.data_dir},
      hint: "give the second reconciler a :data_dir of its own"
    }
  end

  # A port program of its own that starts nothing.
  defp open(%{link: nil, options: options}) do
    Link.open(Options.binary(options), Options.argv(options, :none))
  end

  defp open(%{link: link}), do: {:ok, link}

  @impl true
  def handle_cast(:nudge, %{reconciler: {pid, _monitor}} = state) do
    GenServer.cast(pid, :nudge)
    {:noreply, state}
  end

  def handle_cast(:nudge, state), do: {:noreply, state}

  @impl true
  def handle_info({:DOWN, monitor, :process, _pid, _reason}, %{reconciler: {_, monitor}} = state) do
    {:noreply, %{state | reconciler: nil}}
  end

  def handle_info(_message, %{link: nil} = state), do: {:noreply, state}
  def handle_info(message, state), do: {:noreply, handle_message(message, state)}

  defp handle_message(message, state) do
    case Link.handle(state.link, message) do
      {event, link} -> handle_event(event, %{state | link: link})
      :unknown -> state
    end
  end

  defp handle_event({:reply, {from, op}, result}, state) do
    GenServer.reply(from, shape(op, result))
    state
  end

  defp handle_event({:down, error, waiting}, state) do
    for {from, _op} <- waiting, do: GenServer.reply(from, {:error, error})
    Link.close(state.link)
    %{state | link: nil}
  end

  defp handle_event(_other, state), do: state

  # As a reconciler answers, with what only it knows of runs.
  defp shape(op, {:ok, statuses}) when op in [:status, :await], do: {:ok, {statuses, %{}}}
  defp shape(_op, result), do: result

  @impl true
  def terminate(_reason, state), do: close(state)

  defp close(%{link: nil} = state), do: state

  defp close(%{link: link} = state) do
    case Link.request(link, :shutdown, %{pods: :keep}, :shutdown) do
      {:ok, link} -> await_end(%{state | link: link}, now_ms() + @close_ms_max)
      {:error, _error} -> handle_event({:down, closed(), []}, state)
    end
  end

  defp await_end(%{link: nil} = state, _deadline), do: state

  defp await_end(%{link: %{port: port}} = state, deadline) do
    receive do
      {^port, _data} = message -> await_end(handle_message(message, state), deadline)
      {:EXIT, ^port, _why} = message -> await_end(handle_message(message, state), deadline)
      {Link, _what} = message -> await_end(handle_message(message, state), deadline)
    after
      max(deadline - now_ms(), 0) -> handle_event({:down, closed(), []}, state)
    end
  end

  defp closed, do: %Error{code: :disconnected, message: "the store was closed"}

  defp now_ms, do: System.monotonic_time(:millisecond)
end
