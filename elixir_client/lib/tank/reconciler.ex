defmodule Tank.Reconciler do
  @moduledoc """
  Keeps the pods that were applied running.

  `{Tank.Reconciler, opts}` in a supervision tree starts the port program, which owns the loop
  and the containers, and the processes that stand for runs (`Tank.Runtime`). The loop compares
  what is desired with what runs: it starts what is missing, stops what is no longer desired,
  restarts what changed, and after an exit does what the pod's `:restart` policy says.

      children = [
        {Tank.Reconciler, data_dir: "/var/lib/my_app/tank"}
      ]

  ## Options

  Times are in milliseconds. A wrong option raises `ArgumentError`.

    * `:name` - name of the server; `Tank.Reconciler` by default, which is the one that `Tank`'s
      functions speak to
    * `:data_dir` - a directory for what outlives a reboot. By default `Tank.Store`'s, when one
      runs, else `/var/lib/tank`, or `$XDG_DATA_HOME/tank` without root
    * `:run_dir` - a directory for what does not; by default one of its own for each data
      directory below `/run/tank`, or `$XDG_RUNTIME_DIR/tank` without root (below `:data_dir`, where
      that is not set). Another one than at the last start is refused while pods run in that
    * `:store` - `:durable` (default), or `:memory` for pods that nobody needs after the end
    * `:pods` - specs to create when no pod of that name is there, and none was ever created from
      `:pods` before in this `:data_dir`: one that was changed since stays as it is, and one that
      was deleted stays away
    * `:interval` - period of the full comparison; 5000
    * `:backoff_base`, `:backoff_cap` - the first wait before a restart and the longest; each
      wait is twice the one before; 10000 and 300000
    * `:stable_window` - a run that lasted this long resets the backoff; 600000
    * `:on_shutdown` - what an orderly stop of the supervision tree does to the pods: `:stop`
      (default), or `:keep`, with which they go on and the next start takes them over
    * `:on_disconnect` - what happens to them when the BEAM or the port program dies: `:keep`
      (default), with which they go on and the next start takes them over, `:stop`, or
      `{:stop, after_ms}`, with which they are stopped unless a start takes them over in that time
    * `:owner` - a pid that gets `{:tank, pod_name, event}` with `{:running, host_pid}`,
      `{:exited, code}`, `{:signaled, number}` or `{:error, reason}`
    * `:runtime` - a module that runs pods in place of containers; see `Tank.Runtime`
    * `:runtime_opts` - with the default runtime: `:stop_grace_ms` between the stop signal and
      the kill (10000), `:cgroup_parent`, and `:shim`, path of the shim program; else what the
      injected runtime is given
    * `:binary` - path of the port program; the one that `mix compile` built by default

  ## Without root

  Containers run without root, too, in a user namespace in which root is the user who runs the BEAM.
  Limits of memory, pids and cpu then need a cgroup that is delegated to that user, which
  `:cgroup_parent` names; users other than root need `newuidmap` and ranges in `/etc/subuid` and
  `/etc/subgid`. What cannot be had fails the start and is named by its field. `docs/rootless.md` in
  Tank's repository has the whole list.

  ## When a pod does not run

  Its `Tank.Status` says why: `:reason` in a line, `:last_exit` in full, with a hint where one is
  known. Each failure of a container while the app runs is logged as a warning, with its pod's name
  as `tank_pod` in the metadata; one that a start finds is in `Tank.events/1` like any other. What its processes write to stdout and stderr is in the data directory, in
  `logs/POD/CONTAINER.log` and, when that grew, `CONTAINER.log.1`, until the pod is deleted.

  The environment variable `TANK_LOG` (`error`, `warn`, `info` or `debug`; `warn` by default) says
  what the port program writes to the BEAM's stderr. With `TANK_TRACE=frames` it also writes each
  frame between the two there, without the values of `:env`.

  ## What an orderly stop is

  Stopping the supervisor, and the end of the BEAM by `System.stop/1` or SIGTERM when the tree is
  an application's. A tree that a script or a shell started does not belong to an application: the
  BEAM ends without stopping it, which is `:on_disconnect`, as is `System.halt/1`. A service manager
  that sends SIGTERM to all of a service meets the BEAM alone, as the port program has left its
  cgroups. It cannot without root: `KillMode=process` for systemd, or SIGTERM is `:on_disconnect`.

  ## When the BEAM or the port program dies

  Pods go on, or stop in order, now or later, as `:on_disconnect` says. It holds however they die,
  `kill -9` of both included: who supervises a pod has known it since the pod's start, and counts
  the time from when nobody was there any more. A port program that starts within that time takes
  it back. Pods are in none of the BEAM's cgroups, nor in its session: a service manager that kills
  all of a service leaves them alone. Nothing is restarted while no port program is there.

  When the port program alone dies, calls that wait get `{:error, %Tank.Error{code:
  :disconnected}}`, the server stops, and its supervisor starts it again with a new port program.
  What a call that wrote has come to, such as `Tank.apply/1`, `Tank.get/1` then says.

  ## What a start finds

  With the same `:data_dir` and `:run_dir` (which by default follows from it) a start takes over the
  pods that run. The `Tank.Status` of each is as it was, with the same `:host_pid`, `:incarnation`,
  `:started_at` and `:retries`; each gets a `Tank.Runtime` process of its own, and `Tank.events/1` has
  an `:adopted` for it. A pod whose spec has changed meanwhile is adjusted or replaced, one that was
  deleted is stopped.

  A pod that has ended meanwhile has its exit on record, and its `:restart` policy is applied to that
  as if somebody had seen it: `:last_exit_at` is when it ended, a wait counts from then, and a job
  that is done is not done again. A pod whose supervisor was killed counts as crashed, and one that
  `:on_disconnect` has stopped starts afresh.
  """

  use GenServer

  require Logger

  alias Tank.{Error, Injected, Link, Options, Pod, Runtime, Server, Status, Store, Wire}

  @call_ms 5_000
  @write_ms 30_000
  @boot_ms_max 30_000
  # What cannot be killed is given up 11 seconds after its grace, and then answered for.
  @shutdown_margin_ms 15_000
  @keep_ms_max 5_000
  # Longer than a child's shutdown is by default, shorter than the margin.
  @runs_ms_max 8_000
  @credits 1_024

  # What a crash report shows of it: of many pods, all of it would hide the reason.
  @derive {Inspect, only: [:link, :down]}
  defstruct options: nil,
            link: nil,
            supervisor: nil,
            # name => %{incarnation, pid, monitor, supervisor, told?}
            runs: %{},
            # monitor => name
            monitors: %{},
            # name => %{id, incarnation, starter, supervisor, host_pid}; injected only
            starts: %{},
            # {name, incarnation} => ids of requests that wait for the end; injected only
            stops: %{},
            # names whose pods are being stopped
            stopping: MapSet.new(),
            # name => Status.known(); injected only
            known: %{},
            credits_used: 0,
            # whether a picture was asked for because notices were dropped; who
            # waits for it; and, while it arrives, the notices of what happened
            # after it was taken, the last one first
            resyncing?: false,
            lookers: [],
            later: nil,
            # what start_link waits for
            boot: MapSet.new(),
            down: nil

  @doc "A child specification that leaves time to stop the pods."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    grace_ms = opts |> Options.new!() |> Options.stop_grace_ms()

    %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [opts]},
      type: :worker,
      shutdown: grace_ms + 2 * @shutdown_margin_ms
    }
  end

  @doc """
  Starts the loop and its port program.

  Returns `{:error, %Tank.Error{}}` when the port program cannot start, for instance because
  another holds the data directory.
  """
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts \\ []) do
    options = Options.new!(opts)
    GenServer.start_link(__MODULE__, options, name: options.name)
  end

  @doc "Wakes the loop soon. A hint; always `:ok`, also when nothing runs."
  @spec nudge(GenServer.server()) :: :ok
  def nudge(server \\ __MODULE__), do: GenServer.cast(server, :nudge)

  @doc """
  Waits until a pass that began after the call has settled: what it stopped is gone, and what it
  started has been exec'd or has failed. A pass takes as long as its slowest stop, up to the grace of
  that pod: who waits for less exits, as of any `GenServer.call/3`.
  """
  @spec sync(GenServer.server(), timeout()) :: :ok | {:error, Error.t()}
  def sync(server \\ __MODULE__, timeout \\ 5_000) do
    with {:ok, _nil} <- Server.request(server, :sync, nil, timeout), do: :ok
  end

  @doc "The running pods: `%{name => pid}`. See `Tank.Runtime` for what the pids are."
  @spec running(GenServer.server()) :: %{optional(String.t()) => pid()}
  def running(server \\ __MODULE__), do: Server.request!(server, :running, nil, @call_ms)

  @doc "Every tracked pod's status. See `Tank.Status`."
  @spec status(GenServer.server()) :: %{optional(String.t()) => Status.t()}
  def status(server \\ __MODULE__) do
    {statuses, known} = Server.request!(server, :status, nil, @call_ms)
    Map.new(statuses, fn {name, status} -> {name, Status.from_wire(status, known[name])} end)
  end

  @doc "Stops a pod's run and starts a new one now, with retries at 0."
  @spec restart_pod(GenServer.server() | nil, String.t()) ::
          :ok | {:error, :not_found | Error.t()}
  def restart_pod(server \\ __MODULE__, name) when is_binary(name) do
    with {:ok, _nil} <- Store.of_name(name, :restart, @write_ms, server), do: :ok
  end

  @doc "Waits until a pod is in a state. See `Tank.await/3`."
  @spec await_pod(GenServer.server() | nil, String.t(), atom(), timeout()) ::
          {:ok, Status.t() | nil} | {:error, :not_found | Error.t()}
  def await_pod(server \\ __MODULE__, name, state, timeout) when is_binary(name) do
    {timeout_ms, call_ms} = await_ms(timeout)
    args = %{pod: name, state: state, timeout_ms: timeout_ms}

    with {:ok, {statuses, known}} <- Store.of_name(name, :await, args, call_ms, server) do
      {:ok, statuses[name] && Status.from_wire(statuses[name], known[name])}
    end
  end

  # The port program keeps the time. The call only ends by itself where that does not answer.
  defp await_ms(:infinity), do: {nil, :infinity}
  defp await_ms(timeout_ms), do: {timeout_ms, timeout_ms + @write_ms}

  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)

    supervisor = Injected.supervisor_of_all(options.name, @runs_ms_max)

    with {:ok, data_dir} <- Store.bind(options.data_dir),
         options = Options.with_dirs(options, data_dir),
         {:ok, link} <- Link.open(Options.binary(options), Options.argv(options, mode(options))),
         {:ok, state} <- boot(%__MODULE__{options: options, link: link, supervisor: supervisor}) do
      {:ok, state}
    else
      {:error, error} ->
        Injected.stop_all(supervisor, @runs_ms_max)
        {:stop, error}
    end
  end

  defp mode(%{runtime: Runtime}), do: :container
  defp mode(_injected), do: :client

  # Subscribed, in the picture, and with the seeds stored before anyone asks.
  defp boot(state) do
    seeds = for pod <- state.options.pods, do: {:seed, pod.name}

    %{state | boot: MapSet.new([:subscribe, :resync | seeds]), resyncing?: true}
    |> ask(:subscribe, %{credits: @credits}, :subscribe)
    |> ask(:status, nil, :resync)
    |> create_seeds()
    |> drain(&booted?/1, now_ms() + @boot_ms_max)
    |> boot_result()
  end

  defp booted?(state), do: MapSet.size(state.boot) == 0

  defp boot_result(%{down: nil} = state) do
    if booted?(state), do: {:ok, state}, else: {:error, slow_boot()}
  end

  defp boot_result(%{down: error}), do: {:error, error}

  defp create_seeds(state) do
    Enum.reduce(state.options.pods, state, fn pod, state ->
      ask(state, :seed, Wire.from_pod(pod), {:seed, pod.name})
    end)
  end

  defp slow_boot do
    %Error{
      code: :disconnected,
      message: "the port program said hello and then nothing for #{@boot_ms_max} ms"
    }
  end

  @impl true
  def handle_cast(:nudge, state),
    do: {:noreply, %{state | link: Link.cast(state.link, :nudge, nil)}}

  @impl true
  def handle_call({:tank, :running, nil}, _from, %{resyncing?: false} = state) do
    {:reply, {:ok, live(state)}, state}
  end

  # Notices were dropped, so who has synced would be told of less than that.
  def handle_call({:tank, :running, nil}, from, state) do
    {:noreply, %{state | lookers: [from | state.lookers]}}
  end

  def handle_call({:tank, op, args}, from, state) do
    case Link.request(state.link, op, args, {:call, from, op}) do
      {:ok, link} -> {:noreply, %{state | link: link}}
      {:error, error} -> {:reply, {:error, error}, state}
    end
  end

  # Somebody may have seen a process end whose end is still under way to here.
  defp live(state) do
    for {name, %{pid: pid}} <- state.runs,
        name not in state.stopping and alive?(pid),
        into: %{},
        do: {name, pid}
  end

  defp alive?(pid), do: node(pid) != node() or Process.alive?(pid)

  @impl true
  def handle_info(message, state) do
    case handle_message(message, state) do
      %{down: nil} = state -> {:noreply, state}
      %{down: error} = state -> {:stop, error, state}
    end
  end

  defp handle_message({Injected, :started, key, {pid, supervisor, ref}}, state) do
    state = handle_injected_started({:ok, pid}, key, state)
    send(supervisor, {ref, seen?(key, pid, state)})
    state
  end

  defp handle_message({Injected, :failed, key, reason}, state) do
    handle_injected_started({:error, reason}, key, state)
  end

  defp handle_message({Injected, :ended, {name, incarnation}, reason}, state) do
    case state.runs do
      %{^name => %{incarnation: ^incarnation} = run} -> handle_run_down(name, run, reason, state)
      _over -> state
    end
  end

  defp handle_message({Injected, :stopped, key}, state), do: handle_injected_stopped(key, state)
  defp handle_message({:tank, name, event}, state), do: handle_announced(name, event, state)

  defp handle_message({:DOWN, monitor, :process, _pid, reason}, state) do
    case state.monitors do
      %{^monitor => name} -> handle_run_down(name, Map.fetch!(state.runs, name), reason, state)
      _other -> state
    end
  end

  defp handle_message({:EXIT, supervisor, reason}, %{supervisor: supervisor} = state) do
    %{state | down: Error.internal("the supervisor of runs ended", reason)}
  end

  defp handle_message(message, state) do
    case Link.handle(state.link, message) do
      {event, link} -> handle_event(event, %{state | link: link})
      :unknown -> state
    end
  end

  # What the port program says.

  defp handle_event(:none, state), do: state

  defp handle_event({:notice, notice}, %{later: nil} = state) do
    handle_notice(notice, spend_credit(state))
  end

  defp handle_event({:notice, notice}, state) do
    %{spend_credit(state) | later: [notice | state.later]}
  end

  defp handle_event({:reply_begun, :resync}, state), do: %{state | later: []}
  defp handle_event({:reply_begun, _tag}, state), do: state
  defp handle_event({:reply, tag, result}, state), do: handle_reply(tag, result, state)
  defp handle_event({:request, id, op, args}, state), do: handle_request(op, args, id, state)
  defp handle_event({:cast, :kill, {name, run}}, state), do: kill_injected(name, run, state)

  defp handle_event({:cast, op, _args}, state) do
    Logger.warning("tank: the port program sent an unknown cast: #{inspect(op)}")
    state
  end

  defp handle_event({:down, error, waiting}, state) do
    for {:call, from, _op} <- waiting, do: GenServer.reply(from, {:error, error})
    for from <- state.lookers, do: GenServer.reply(from, {:error, error})
    %{state | down: error, lookers: []}
  end

  defp spend_credit(%{credits_used: used} = state) when used + 1 < div(@credits, 2) do
    %{state | credits_used: used + 1}
  end

  defp spend_credit(%{credits_used: used} = state) do
    %{state | credits_used: 0, link: Link.cast(state.link, :credit, used + 1)}
  end

  defp ask(state, op, args, tag) do
    case Link.request(state.link, op, args, tag) do
      {:ok, link} -> %{state | link: link}
      {:error, error} -> %{state | down: error}
    end
  end

  defp handle_reply({:call, from, op}, {:ok, statuses}, state) when op in [:status, :await] do
    GenServer.reply(from, {:ok, {statuses, Map.take(state.known, Map.keys(statuses))}})
    state
  end

  defp handle_reply({:call, from, _op}, result, state) do
    GenServer.reply(from, result)
    state
  end

  defp handle_reply(:kill, _result, state), do: state
  defp handle_reply(:shutdown, {:ok, nil}, state), do: state

  defp handle_reply(:shutdown, {:error, error}, state) do
    Logger.error("tank: not every pod was stopped: #{Exception.message(error)}")
    state
  end

  defp handle_reply(tag, result, state) do
    state = %{state | boot: MapSet.delete(state.boot, tag)}

    case {tag, result} do
      {:subscribe, {:ok, _seq}} -> state
      {:resync, {:ok, statuses}} -> statuses |> resync_runs(state) |> catch_up() |> show_lookers()
      {{:seed, name}, {:error, error}} -> warn_of_seed(name, error, state)
      {{:seed, _name}, {:ok, _generation}} -> state
      {_tag, {:error, error}} -> %{state | down: error}
    end
  end

  defp catch_up(%{later: later} = state) do
    state = %{state | resyncing?: false, later: nil}
    Enum.reduce(Enum.reverse(later || []), state, &handle_notice/2)
  end

  defp show_lookers(%{resyncing?: true} = state), do: state

  defp show_lookers(state) do
    for from <- state.lookers, do: GenServer.reply(from, {:ok, live(state)})
    %{state | lookers: []}
  end

  defp warn_of_seed(_name, %Error{code: :exists}, state), do: state

  defp warn_of_seed(name, error, state) do
    Logger.error("tank: pod #{name} of :pods was not created: " <> Exception.message(error))
    state
  end

  # Runs of the default runtime follow the notices.

  # A picture that is still to come will be of after what was missed.
  defp handle_notice(:resync, %{resyncing?: true} = state), do: state

  defp handle_notice(:resync, state) do
    ask(%{state | resyncing?: true}, :status, nil, :resync)
  end

  defp handle_notice({:status, name, status}, state) do
    log_failure(name, status, state.options)
    note_status(name, status, state)
  end

  defp handle_notice({:gone, name}, state) do
    state = finish_run(name, :stopped, state)
    %{state | known: Map.delete(state.known, name)}
  end

  defp handle_notice(_of_a_run, %{options: %{runtime: runtime}} = state)
       when runtime != Runtime do
    state
  end

  defp handle_notice({:started, name, incarnation, host_pid}, state) do
    tell_owner(name, {:running, host_pid}, state)
    start_run(name, incarnation, host_pid, state)
  end

  defp handle_notice({:ended, name, incarnation, exit}, state) do
    tell_owner(name, told(exit), state)

    case state.runs do
      %{^name => %{incarnation: ^incarnation}} -> finish_run(name, how(name, exit, state), state)
      _older -> state
    end
  end

  defp handle_notice({:failed, name, _incarnation, error}, state) do
    tell_owner(name, {:error, Error.from_wire(error)}, state)
    state
  end

  # A newer program's.
  defp handle_notice(_unknown, state), do: state

  # What somebody should hear of without asking. The end of an injected
  # runtime's process is OTP's to report.
  defp log_failure(name, %{phase: phase, last_exit: exit, reason: reason}, %{runtime: Runtime})
       when phase in [:waiting, :done] and exit not in [nil, {:exited, 0}] do
    Logger.warning("tank: pod #{name}: #{reason}#{advice(exit)}", tank_pod: name)
  end

  defp log_failure(_name, _status, _options), do: :ok

  defp advice({:error, %{hint: hint}}) when hint != nil, do: "\nhint: #{hint}"
  defp advice(_exit), do: ""

  defp told({:error, error}), do: {:error, Error.from_wire(error)}
  defp told(exit), do: exit

  defp how(name, exit, state), do: if(name in state.stopping, do: :stopped, else: exit)

  defp note_status(name, %{status: :stopping}, state) do
    %{state | stopping: MapSet.put(state.stopping, name)}
  end

  defp note_status(name, %{status: :running}, state) do
    %{state | stopping: MapSet.delete(state.stopping, name)}
  end

  # Whatever was missed: a run of another number is over, and while a pod waits
  # it has none.
  defp note_status(name, status, state) do
    case state.runs do
      %{^name => %{incarnation: run}}
      when status.status == :starting and run == status.incarnation ->
        state

      _over ->
        finish_run(name, how(name, Map.get(status, :last_exit) || :stopped, state), state)
    end
  end

  defp resync_runs(statuses, %{options: %{runtime: Runtime}} = state) do
    gone = for {name, _run} <- state.runs, not is_map_key(statuses, name), do: name
    state = Enum.reduce(gone, state, &finish_run(&1, :stopped, &2))
    Enum.reduce(statuses, state, fn {name, status}, state -> resync_run(name, status, state) end)
  end

  # Of an injected runtime only what is noted beside its runs can be out of date.
  defp resync_runs(statuses, state) do
    stopping = for {name, %{status: :stopping}} <- statuses, name in state.stopping, do: name
    known = Map.take(state.known, Map.keys(statuses))
    %{state | stopping: MapSet.new(stopping), known: known}
  end

  defp resync_run(name, %{status: live, incarnation: run} = status, state)
       when live in [:running, :stopping] do
    state = if live == :running, do: start_run(name, run, status[:host_pid], state), else: state
    note_status(name, status, state)
  end

  defp resync_run(name, status, state), do: note_status(name, status, state)

  defp start_run(name, incarnation, host_pid, state) do
    case state.runs do
      %{^name => %{incarnation: ^incarnation}} ->
        state

      %{^name => _older} ->
        start_run(name, incarnation, host_pid, finish_run(name, :stopped, state))

      _none ->
        put_new_run(name, incarnation, host_pid, state)
    end
  end

  defp put_new_run(name, incarnation, host_pid, state) do
    {:ok, pid} = DynamicSupervisor.start_child(state.supervisor, {Runtime, host_pid})
    put_run(name, %{incarnation: incarnation, pid: pid, supervisor: nil, told?: true}, state)
  end

  defp put_run(name, run, state) do
    monitor = Process.monitor(run.pid)

    %{
      state
      | runs: Map.put(state.runs, name, Map.put(run, :monitor, monitor)),
        monitors: Map.put(state.monitors, monitor, name),
        stopping: MapSet.delete(state.stopping, name)
    }
  end

  # Of an injected runtime, whose processes end by themselves or by a stop
  # request, only what was noted of the pod's stop is dropped.
  defp finish_run(name, how, %{options: %{runtime: Runtime}} = state) do
    with %{^name => run} <- state.runs, do: Runtime.finish(run.pid, how)
    forget_run(name, state)
  end

  defp finish_run(name, _how, state), do: %{state | stopping: MapSet.delete(state.stopping, name)}

  defp forget_run(name, state) do
    state = %{state | stopping: MapSet.delete(state.stopping, name)}

    case Map.pop(state.runs, name) do
      {nil, _runs} ->
        state

      {%{monitor: monitor}, runs} ->
        Process.demonitor(monitor, [:flush])
        %{state | runs: runs, monitors: Map.delete(state.monitors, monitor)}
    end
  end

  # A process that stands for a run ended and nobody here ended it.

  defp handle_run_down(name, run, _reason, %{options: %{runtime: Runtime}} = state) do
    name
    |> forget_run(state)
    |> ask(:kill, {name, run.incarnation}, :kill)
  end

  defp handle_run_down(name, run, reason, state) do
    {exit, shown} = injected_exit(reason)
    unless run.told?, do: tell_owner(name, shown, state)
    Injected.stop(:swept, run.supervisor)

    state = know_exit(name, exit, shown, forget_run(name, state))
    %{state | link: Link.cast(state.link, :exited, {name, run.incarnation, exit})}
  end

  defp injected_exit(:normal), do: {{:exited, 0}, {:exited, 0}}

  defp injected_exit({:shutdown, {:workload_exited, code}}) when is_integer(code) do
    {{:exited, code}, {:exited, code}}
  end

  defp injected_exit({:shutdown, {:workload_signaled, signal}}) when is_integer(signal) do
    {{:signaled, signal}, {:signaled, signal}}
  end

  # Shown as the clean exit that it mostly is, and yet restarted as a crash:
  # nothing but `:normal` says that the work is done.
  defp injected_exit(:shutdown), do: {failure(:shutdown), {:exited, 0}}
  defp injected_exit(reason), do: {failure(reason), {:error, reason}}

  defp failure(reason) do
    # No more than the program keeps, which gives it back as it got it.
    message = reason |> inspect(limit: 50, printable_limit: 1_000) |> String.slice(0, 2_000)
    {:error, %{code: :runtime_failed, message: message, where: %{}, hint: nil}}
  end

  defp know_exit(name, {:error, %{message: message}}, shown, state) do
    known = state.known |> Map.get(name, %{}) |> Map.put(:exit, {message, shown})
    %{state | known: Map.put(state.known, name, known)}
  end

  defp know_exit(_name, _exit, _shown, state), do: state

  # An injected runtime's runs: the port program decides, this side does.

  defp handle_request(:start, {name, incarnation, spec}, id, state) do
    start_injected(Pod.new(spec), name, incarnation, id, state)
  end

  defp handle_request(:stop, {name, incarnation}, id, state) do
    stop_injected(name, incarnation, [id], state)
  end

  defp handle_request(op, _args, id, state) do
    error = %Error{code: :unknown_op, message: "the client has no operation #{inspect(op)}"}
    answer(state, [id], {:error, error})
  end

  defp answer(state, ids, result) do
    %{state | link: Enum.reduce(ids, state.link, &Link.reply(&2, &1, result))}
  end

  defp start_injected({:error, reason}, _name, _incarnation, id, state) do
    answer(state, [id], {:error, Error.internal("the port program sent a wrong pod", reason)})
  end

  defp start_injected({:ok, pod}, name, incarnation, id, state) do
    %{runtime: runtime, runtime_opts: opts} = state.options
    opts = Keyword.put(opts, :owner, self())
    supervisor = Injected.supervisor(state.supervisor)
    starter = Injected.start({name, incarnation}, supervisor, runtime, pod, opts)

    start = %{
      id: id,
      incarnation: incarnation,
      starter: starter,
      supervisor: supervisor,
      host_pid: nil
    }

    %{state | starts: Map.put(state.starts, name, start)}
  end

  defp handle_injected_started(started, {name, incarnation}, state) do
    case state.starts do
      %{^name => %{incarnation: ^incarnation} = start} ->
        finish_start(started, name, start, %{state | starts: Map.delete(state.starts, name)})

      _cancelled ->
        state
    end
  end

  # A monitor that came too late would not know the reason; the run's own
  # supervisor does, and tells it.
  defp seen?({name, incarnation}, pid, state) do
    case state.runs do
      %{^name => %{incarnation: ^incarnation, monitor: monitor}} ->
        monitored?(pid) or not Process.demonitor(monitor, [:flush])

      _cancelled ->
        true
    end
  end

  # Whether it is alive says less: what is about to end may be, and take no
  # monitor any more.
  defp monitored?(pid) when node(pid) != node(), do: true

  defp monitored?(pid) do
    case Process.info(pid, :monitored_by) do
      {:monitored_by, pids} -> self() in pids
      nil -> false
    end
  end

  defp finish_start({:ok, pid}, name, start, state) do
    run = %{incarnation: start.incarnation, pid: pid, supervisor: start.supervisor, told?: false}
    value = %{host_pid: start.host_pid}
    answer(put_run(name, run, state), [start.id], {:ok, value})
  end

  defp finish_start({:error, reason}, name, start, state) do
    {:error, error} = failure(reason)
    tell_owner(name, {:error, reason}, state)
    Injected.stop(:swept, start.supervisor)
    state = know_exit(name, {:error, error}, {:error, reason}, state)
    answer(state, [start.id], {:error, Error.from_wire(error)})
  end

  defp stop_injected(name, incarnation, ids, state) do
    key = {name, incarnation}

    case state do
      %{stops: %{^key => waiting}} ->
        %{state | stops: Map.put(state.stops, key, ids ++ waiting)}

      %{starts: %{^name => %{incarnation: ^incarnation} = start}} ->
        Injected.cancel(key, start.starter, start.supervisor)
        state = answer(state, [start.id], {:error, cancelled()})
        %{state | starts: Map.delete(state.starts, name), stops: Map.put(state.stops, key, ids)}

      %{runs: %{^name => %{incarnation: ^incarnation} = run}} ->
        Injected.stop(key, run.supervisor)
        state = forget_run(name, state)
        %{state | stops: Map.put(state.stops, key, ids)}

      _gone ->
        answer(state, ids, {:ok, nil})
    end
  end

  defp cancelled, do: %Error{code: :runtime_failed, message: "the start was given up"}

  defp handle_injected_stopped(key, state) do
    {ids, stops} = Map.pop(state.stops, key, [])
    answer(%{state | stops: stops}, ids, {:ok, nil})
  end

  defp kill_injected(name, incarnation, state) do
    case state.runs do
      %{^name => %{incarnation: ^incarnation, pid: pid}} ->
        Process.exit(pid, :kill)
        state

      _starting_or_gone ->
        stop_injected(name, incarnation, [], state)
    end
  end

  defp handle_announced(_name, _event, %{options: %{runtime: Runtime}} = state), do: state

  defp handle_announced(name, event, state) do
    tell_owner(name, event, state)
    note_announced(name, event, state)
  end

  defp note_announced(name, {:running, host_pid}, state) do
    case state do
      %{starts: %{^name => start}} ->
        starts = Map.put(state.starts, name, %{start | host_pid: host_pid})
        know_host_pid(name, start.incarnation, host_pid, %{state | starts: starts})

      %{runs: %{^name => run}} ->
        know_host_pid(name, run.incarnation, host_pid, state)

      _unknown ->
        state
    end
  end

  defp note_announced(name, {ended, _how}, state) when ended in [:exited, :signaled, :error] do
    case state.runs do
      %{^name => run} -> %{state | runs: Map.put(state.runs, name, %{run | told?: true})}
      _none -> state
    end
  end

  defp note_announced(_name, _event, state), do: state

  defp know_host_pid(name, incarnation, host_pid, state) do
    known = state.known |> Map.get(name, %{}) |> Map.put(:host_pid, {incarnation, host_pid})
    %{state | known: Map.put(state.known, name, known)}
  end

  defp tell_owner(_name, _event, %{options: %{owner: nil}}), do: :ok

  defp tell_owner(name, event, %{options: %{owner: owner}}) do
    send(owner, {:tank, name, event})
    :ok
  end

  # The end.

  @impl true
  def terminate(reason, state) do
    state = if orderly?(reason) and state.down == nil, do: shut_down(state), else: state
    Link.close(state.link)
    end_runs(state)
  end

  defp orderly?(:normal), do: true
  defp orderly?(:shutdown), do: true
  defp orderly?({:shutdown, _why}), do: true
  defp orderly?(_crash), do: false

  # Before the next server starts them again, and by an orderly stop, or their
  # supervisor would report the same crash once more.
  defp end_runs(state) do
    for {_name, start} <- state.starts do
      Injected.cancel(:swept, start.starter, start.supervisor)
    end

    Injected.stop_all(state.supervisor, @runs_ms_max)
  end

  defp shut_down(%{options: options} = state) do
    {pods, wait_ms} =
      case options.on_shutdown do
        :stop -> {:stop, Options.stop_grace_ms(options) + @shutdown_margin_ms}
        :keep -> {:keep, @keep_ms_max}
      end

    state
    |> ask(:shutdown, %{pods: pods}, :shutdown)
    |> drain(& &1.down, now_ms() + wait_ms)
    |> warn_of_slow_end(wait_ms)
  end

  defp warn_of_slow_end(%{down: nil} = state, wait_ms) do
    Logger.error("tank: the port program did not end within #{wait_ms} ms; pods may still run")
    state
  end

  defp warn_of_slow_end(ended, _wait_ms), do: ended

  # Handles messages outside of the GenServer's own loop, before its first
  # message and after its last, and leaves calls where they are.
  defp drain(state, done?, deadline) do
    if done?.(state) || state.down, do: state, else: drain_one(state, done?, deadline)
  end

  defp drain_one(%{link: %{port: port}} = state, done?, deadline) do
    receive do
      {^port, _data} = message -> drain(handle_message(message, state), done?, deadline)
      {:EXIT, ^port, _why} = message -> drain(handle_message(message, state), done?, deadline)
      {Link, _what} = message -> drain(handle_message(message, state), done?, deadline)
      {Injected, _, _} = message -> drain(handle_message(message, state), done?, deadline)
      {Injected, _, _, _} = message -> drain(handle_message(message, state), done?, deadline)
      {:DOWN, _, _, _, _} = message -> drain(handle_message(message, state), done?, deadline)
    after
      max(deadline - now_ms(), 0) -> state
    end
  end

  defp now_ms, do: System.monotonic_time(:millisecond)
end
