defmodule Tank.Runtime do
  @moduledoc """
  A process that stands for one run of a pod.

  `Tank.Reconciler` starts one when a pod's workload has been exec'd, and `Tank.running/0` gives
  its pid. It lives as long as the run does, or as the server: a run that outlives the server (see
  "What a start finds" in `Tank.Reconciler`) gets another process from the next one. Its exit reason
  says how the run ended:

  | Reason | The workload |
  |---|---|
  | `:normal` | exited with status 0 |
  | `{:shutdown, {:workload_exited, code}}` | exited with another status |
  | `{:shutdown, {:workload_signaled, signal}}` | was ended by a signal |
  | `{:shutdown, {:workload_failed, error}}` | vanished; `error` is a `Tank.Error` |
  | `:shutdown` | was stopped on request: deleted, changed, restarted by hand; or the server has ended |

  What becomes of the workload when the server ends, `:on_shutdown` and `:on_disconnect` say.

  So it can be monitored and linked like any process. Ending it in any way kills the pod's
  containers, and its restart policy counts that as a crash.

  ## A runtime of your own

  With `{Tank.Reconciler, runtime: MyRuntime}` no container runs: the loop starts
  `MyRuntime.child_spec({pod, opts})` instead, as a `:temporary` child, where `opts` are the
  reconciler's `:runtime_opts` with `:owner` set to the reconciler. Its pid is what
  `Tank.running/0` gives, and its exit is the pod's exit: `:normal` and the first two `:shutdown`
  forms above mean what they say, and everything else is a failure. To stop the pod, the child is
  terminated as a supervisor does it; when the server itself ends, it is killed after 8 seconds at
  the latest. It may send
  `{:tank, pod_name, {:running, host_pid}}` to its `:owner`; `Tank.status/0` then shows that pid.

      defmodule MyRuntime do
        use GenServer, restart: :temporary

        def start_link({pod, opts}), do: GenServer.start_link(__MODULE__, {pod, opts})

        @impl true
        def init({pod, _opts}), do: {:ok, pod}
      end
  """

  use GenServer, restart: :temporary

  alias Tank.Error

  @doc "The workload's pid on the host."
  @spec host_pid(pid()) :: {:ok, pos_integer()} | {:error, :not_running}
  def host_pid(runtime) do
    case GenServer.call(runtime, :host_pid) do
      nil -> {:error, :not_running}
      host_pid -> {:ok, host_pid}
    end
  catch
    :exit, _reason -> {:error, :not_running}
  end

  @doc false
  def start_link(host_pid), do: GenServer.start_link(__MODULE__, host_pid)

  @doc false
  # Over when it returns, so that who is told next finds no live pid.
  @spec finish(pid(), {:exited | :signaled | :error, term()} | :stopped) :: :ok
  def finish(runtime, how) do
    GenServer.stop(runtime, reason(how))
  catch
    :exit, _gone -> :ok
  end

  defp reason(:stopped), do: :shutdown
  defp reason({:exited, 0}), do: :normal
  defp reason({:exited, code}), do: {:shutdown, {:workload_exited, code}}
  defp reason({:signaled, signal}), do: {:shutdown, {:workload_signaled, signal}}
  defp reason({:error, error}), do: {:shutdown, {:workload_failed, Error.from_wire(error)}}

  @impl true
  def init(host_pid), do: {:ok, host_pid}

  @impl true
  def handle_call(:host_pid, _from, host_pid), do: {:reply, host_pid, host_pid}

  @impl true
  def handle_info(_message, host_pid), do: {:noreply, host_pid}
end
