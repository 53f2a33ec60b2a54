defmodule Tank.Status do
  @moduledoc """
  What Tank tells of one pod: the maps that `Tank.status/0` gives.

  | Key | Value |
  |---|---|
  | `:status` | `:starting`, `:running`, `:stopping`, `:backing_off` or `:terminal` |
  | `:retries` | restarts in a row |
  | `:phase` | what it is doing, finer: `:launching`, `:running`, `:restarting`, `:deleting`, `:sweeping`, `:waiting`, `:done` |
  | `:reason` | why, in one line, or `nil` |
  | `:last_exit` | `{:exited, code}`, `{:signaled, number}`, `{:error, reason}` or `nil`; kept across restarts |
  | `:last_exit_container` | name of the container whose exit it was, in a pod of several; else `nil` |
  | `:last_exit_at` | `DateTime` or `nil` |
  | `:started_at` | `DateTime` of the current run's exec, or `nil` |
  | `:retry_in_ms`, `:restart_at` | when it starts again, while backing off; else `nil` |
  | `:generation` | version of the spec that the run is by; lower than the desired one until what was applied is in force. Each change of any pod takes the next |
  | `:incarnation` | number of the current or last run; 0 before the first |
  | `:host_pid` | the workload's pid on the host, or `nil` |
  | `:containers` | `%{name => %{host_pid: pid}}` |

  The reason of an error is a `Tank.Error`, or the exit reason of an injected runtime's process.
  """

  alias Tank.Error

  @type exit :: {:exited, integer()} | {:signaled, pos_integer()} | {:error, term()}
  @type t :: %{
          required(:status) => :starting | :running | :stopping | :backing_off | :terminal,
          required(:retries) => non_neg_integer(),
          optional(atom()) => term()
        }

  @typedoc false
  # What only this side knows of an injected run: its announced pid, and the
  # exit or failure behind a message that the port program was given.
  @type known :: %{
          optional(:host_pid) => {incarnation :: pos_integer(), pos_integer()},
          optional(:exit) => {message :: String.t(), exit()}
        }

  @doc false
  @spec from_wire(map(), known() | nil) :: t()
  def from_wire(status, known) do
    now = DateTime.utc_now()

    status
    |> Map.drop([:last_exit_at_ms, :started_at_ms])
    |> Map.merge(%{
      last_exit: last_exit(status[:last_exit], known),
      last_exit_at: at(status[:last_exit_at_ms]),
      started_at: at(status[:started_at_ms]),
      restart_at: status[:retry_in_ms] && DateTime.add(now, status.retry_in_ms, :millisecond),
      host_pid: host_pid(status, known)
    })
  end

  defp at(nil), do: nil
  defp at(unix_ms), do: DateTime.from_unix!(unix_ms, :millisecond)

  defp last_exit({:error, %{message: message}}, %{exit: {message, exit}}), do: exit
  defp last_exit({:error, error}, _known), do: {:error, Error.from_wire(error)}
  defp last_exit(exit, _known), do: exit

  defp host_pid(%{incarnation: run, status: :running}, %{host_pid: {run, host_pid}}), do: host_pid
  defp host_pid(status, _known), do: status[:host_pid]
end
