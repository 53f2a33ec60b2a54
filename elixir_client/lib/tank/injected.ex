defmodule Tank.Injected do
  @moduledoc false

  # Starting and stopping the runs of an injected runtime, whose code may take
  # its time. So each run has a supervisor of its own below the reconciler's,
  # and each start and stop a process of its own; the reconciler only gets
  # messages, and no run waits for another:
  #
  #     {Tank.Injected, :started, key, {:ok, pid} | {:error, reason}}
  #     {Tank.Injected, :stopped, key}

  @kill_ms_max 5_000

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
    reconciler = self()

    spawn(fn ->
      send(reconciler, {__MODULE__, :started, key, start_child(own, runtime, {pod, opts})})
    end)
  end

  defp start_child(own, runtime, args) do
    case DynamicSupervisor.start_child(own, child_spec(runtime, args)) do
      {:ok, pid} -> {:ok, pid}
      {:ok, pid, _info} -> {:ok, pid}
      :ignore -> {:error, :ignore}
      {:error, reason} -> {:error, reason}
    end
  rescue
    error -> {:error, {error, __STACKTRACE__}}
  catch
    kind, reason -> {:error, {kind, reason}}
  end

  defp child_spec(runtime, {pod, _opts} = args) do
    Supervisor.child_spec({runtime, args}, id: {runtime, pod.name}, restart: :temporary)
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
    with {:links, links} <- Process.info(own, :links),
         {:dictionary, dictionary} <- Process.info(own, :dictionary) do
      parents = Keyword.get(dictionary, :"$ancestors", [])
      for pid <- links, is_pid(pid), pid not in parents, do: pid
    else
      nil -> []
    end
  end

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
