defmodule Tank.Injected do
  @moduledoc false

  # Starting and stopping the runs of an injected runtime, whose code may take
  # its time. So each run has a supervisor of its own below the reconciler's,
  # and each start and stop a process of its own; the reconciler only gets
  # messages, and no run waits for another:
  #
  #     {Tank.Injected, :started, key, {pid, supervisor, ref}}
  #     {Tank.Injected, :failed, key, reason}
  #     {Tank.Injected, :ended, key, reason}
  #     {Tank.Injected, :stopped, key}
  #
  # Whoever gets `:started` monitors the pid and sends `{ref, seen?}` to the
  # supervisor: whether that was in time. If not, `:ended` follows, which says
  # why the process ended as no monitor could.

  @kill_ms_max 5_000
  @exit_ms_max 1_000

  @doc """
  The supervisor of all runs of the reconciler of this name, linked to the caller. One that a
  killed reconciler left behind is waited for, so that no run has a second beside it.
  """
  @spec supervisor_of_all(GenServer.name(), non_neg_integer()) :: pid()
  def supervisor_of_all(name, wait_ms) do
    case DynamicSupervisor.start_link([strategy: :one_for_one] ++ own_name(name)) do
      {:ok, supervisor} ->
        supervisor

      {:error, {:already_started, left}} ->
        await_end(left, wait_ms)
        supervisor_of_all(name, wait_ms)
    end
  end

  # Of other kinds of names no second one can be made with certainty.
  defp own_name(name) when is_atom(name), do: [name: Module.concat(name, Runs)]
  defp own_name({:global, term}), do: [name: {:global, {__MODULE__, term}}]
  defp own_name(_via), do: []

  defp await_end(left, wait_ms) do
    monitor = Process.monitor(left)

    receive do
      {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
    after
      wait_ms -> kill(tree(left))
    end
  end

  @doc "Stops all runs; those that take longer are killed."
  @spec stop_all(pid(), non_neg_integer()) :: :ok
  def stop_all(supervisor, wait_ms) do
    GenServer.stop(supervisor, :shutdown, wait_ms)
  catch
    :exit, _late_or_gone -> kill(tree(supervisor))
  end

  # One that is ending has let go of its links, but is an ancestor still.
  defp tree(supervisor) do
    below = for pid <- Process.list(), supervisor in ancestors(pid), do: pid
    Enum.uniq([supervisor | below ++ Enum.flat_map(below, &children/1)])
  end

  @doc "A supervisor for one run, below the reconciler's."
  @spec supervisor(pid()) :: pid()
  def supervisor(parent) do
    spec = Supervisor.child_spec({DynamicSupervisor, strategy: :one_for_one}, restart: :temporary)
    {:ok, own} = DynamicSupervisor.start_child(parent, spec)
    own
  end

  @doc "Starts a run. `key` is what the messages carry; returns the starting process."
  @spec start(term(), pid(), module(), Tank.Pod.t(), keyword()) :: pid()
  def start(key, own, runtime, pod, opts) do
    watch = {self(), key}

    spawn(fn ->
      with {:error, reason} <- start_child(own, runtime, {pod, opts}, watch) do
        tell(watch, :failed, reason)
      end
    end)
  end

  defp start_child(own, runtime, args, watch) do
    case DynamicSupervisor.start_child(own, child_spec(runtime, args, watch)) do
      {:ok, pid} -> {:ok, pid}
      :ignore -> {:error, :ignore}
      {:error, reason} -> {:error, reason}
    end
  rescue
    error -> {:error, {error, __STACKTRACE__}}
  catch
    :exit, {reason, {GenServer, :call, _args}} -> {:error, reason}
    kind, reason -> {:error, {kind, reason}}
  end

  defp child_spec(runtime, {pod, _opts} = args, watch) do
    {runtime, args}
    |> Supervisor.child_spec(id: {runtime, pod.name}, restart: :temporary)
    |> Map.update!(:start, &{__MODULE__, :start_watched, [watch, &1]})
  end

  defp tell({reconciler, key}, what, value) do
    send(reconciler, {__MODULE__, what, key, value})
  end

  @doc false
  # Runs in the run's supervisor, which is linked to the run from its first
  # moment: a run that ends at once is over before anyone else could monitor it.
  def start_watched(watch, {module, function, args}) do
    case apply(module, function, args) do
      {:ok, pid} when is_pid(pid) -> watched(watch, pid)
      {:ok, pid, _info} when is_pid(pid) -> watched(watch, pid)
      not_started -> not_started
    end
  end

  defp watched({reconciler, _key} = watch, pid) do
    ref = Process.monitor(reconciler)
    tell(watch, :started, {pid, self(), ref})

    receive do
      {^ref, true} -> Process.demonitor(ref, [:flush])
      {^ref, false} -> tell(watch, :ended, exit_reason(pid))
      {:DOWN, ^ref, :process, _pid, _reason} -> :gone
    end

    {:ok, pid}
  end

  # The supervisor still needs the message.
  defp exit_reason(pid) do
    receive do
      {:EXIT, ^pid, reason} = message ->
        send(self(), message)
        reason
    after
      @exit_ms_max -> :noproc
    end
  end

  @doc "Stops a run that has started, as a supervisor stops a child."
  @spec stop(term(), pid()) :: pid()
  def stop(key, own) do
    in_background(key, fn ->
      # Its child ends by the child's own shutdown rule.
      DynamicSupervisor.stop(own, :normal, :infinity)
    end)
  end

  @doc "Gives up a start, whatever it hangs in."
  @spec cancel(term(), pid(), pid()) :: pid()
  def cancel(key, starter, own) do
    in_background(key, fn -> kill([starter, own | children(own)]) end)
  end

  defp in_background(key, fun) do
    reconciler = self()

    spawn(fn ->
      try do
        fun.()
      catch
        :exit, _gone -> :ok
      end

      send(reconciler, {__MODULE__, :stopped, key})
    end)
  end

  # The supervisor hangs in its child's init and cannot be asked.
  defp children(own) do
    case Process.info(own, :links) do
      {:links, links} -> Enum.filter(links, &is_pid/1) -- ancestors(own)
      nil -> []
    end
  end

  defp ancestors(pid) do
    case Process.info(pid, :dictionary) do
      {:dictionary, dictionary} ->
        dictionary |> List.keyfind(:"$ancestors", 0, {nil, []}) |> elem(1) |> Enum.map(&pid/1)

      nil ->
        []
    end
  end

  defp pid(name) when is_atom(name), do: Process.whereis(name)
  defp pid(pid), do: pid

  defp kill(pids) do
    monitors = for pid <- pids, do: Process.monitor(pid)
    for pid <- pids, do: Process.exit(pid, :kill)

    for monitor <- monitors do
      receive do
        {:DOWN, ^monitor, :process, _pid, _reason} -> :ok
      after
        @kill_ms_max -> :ok
      end
    end

    :ok
  end
end
