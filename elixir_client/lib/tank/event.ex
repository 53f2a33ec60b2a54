defmodule Tank.Event do
  @moduledoc """
  One thing that happened to a pod: the maps that `Tank.events/2` gives.

  Each has `:at`, a `DateTime`; `:event`; `:incarnation`, the number of the run that it happened
  to, 0 where it was none's; and `:generation` and `:retries`, as they were.

  | `:event` | What it is | Further keys |
  |---|---|---|
  | `:applied` | another spec became durable | |
  | `:started` | a run was exec'd | `:host_pid` |
  | `:adopted` | a run was taken over as it was, by a port program that started | `:host_pid` |
  | `:ended` | a run is over | `:exit`, as `:last_exit` in `Tank.Status`; `:container`, whose it was, in a pod of several |
  | `:failed` | a start failed | `:exit`, `{:error, %Tank.Error{}}` |
  | `:backing_off` | the next start waits | `:retry_in_ms`, `:reason` |
  | `:terminal` | there is no next start | `:reason` |
  | `:stopping` | a run is being ended | `:reason` |
  """

  alias Tank.Error

  @type t :: %{
          required(:at) => DateTime.t(),
          required(:event) =>
            :applied
            | :started
            | :adopted
            | :ended
            | :failed
            | :backing_off
            | :terminal
            | :stopping,
          required(:incarnation) => non_neg_integer(),
          required(:generation) => pos_integer(),
          required(:retries) => non_neg_integer(),
          optional(atom()) => term()
        }

  @doc false
  @spec from_wire(map()) :: t()
  def from_wire(event) do
    {at_ms, event} = Map.pop!(event, :at_ms)
    event |> Map.put(:at, DateTime.from_unix!(at_ms, :millisecond)) |> with_error()
  end

  defp with_error(%{exit: {:error, error}} = event) do
    %{event | exit: {:error, Error.from_wire(error)}}
  end

  defp with_error(event), do: event
end
