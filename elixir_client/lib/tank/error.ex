defmodule Tank.Error do
  @moduledoc """
  What went wrong, where, and what to do about it.

    * `:code` - one of the codes below
    * `:message` - what went wrong, in one line, with the operating system's own words
    * `:where` - a map of places to texts: `:pod`, `:container`, `:field`, `:path`, `:step`,
      `:errno`, `:pid`, `:option`, `:offset`
    * `:hint` - what to do, or `nil`
    * `:reason` - for `:invalid_spec`, the rule as a term (see `Tank.Pod`)

  `Exception.message/1` gives all of it as text.

  | Code | Meaning |
  |---|---|
  | `:malformed_frame` | a frame is not one well-formed term |
  | `:frame_too_large` | a request, or the answer to one, is longer than the limit |
  | `:protocol_mismatch` | the two sides speak different protocol versions |
  | `:handshake_required` | a request came before the handshake |
  | `:unknown_op` | the operation does not exist |
  | `:bad_args` | the operation exists and its arguments are of another shape |
  | `:invalid_spec` | a pod spec breaks a rule |
  | `:unsupported` | a valid spec asks for what this runtime cannot do |
  | `:not_found` | no such pod, or no such run of it |
  | `:exists` | a pod of that name is there already |
  | `:store_failed` | the store could not commit; nothing changed |
  | `:store_corrupt` | a stored record cannot be read, or a damaged state file cannot be set aside |
  | `:locked` | another port program holds the data directory |
  | `:not_permitted` | the operating system refuses for want of privilege |
  | `:start_failed` | a pod could not be started |
  | `:stop_failed` | a pod could not be stopped; it is tried again |
  | `:image_unavailable` | an image could not be downloaded |
  | `:runtime_failed` | an injected runtime failed |
  | `:lost` | a run vanished without an exit status |
  | `:timeout` | what was waited for has not come in time |
  | `:shutting_down` | the program is stopping and takes no more work |
  | `:busy` | a stated limit on work in flight is reached |
  | `:bad_option` | an option is wrong |
  | `:internal` | a defect in Tank |
  | `:disconnected` | the port program could not be run, or is gone, and the answer with it |
  | `:not_running` | nothing that could answer has been started |

  The last two are this library's own; the others come from the port program.
  """

  defexception [:code, :message, :hint, :reason, where: %{}]

  @type t :: %__MODULE__{
          code: atom(),
          message: String.t(),
          where: %{optional(atom()) => String.t()},
          hint: String.t() | nil,
          reason: term()
        }

  @impl true
  def message(%__MODULE__{} = error) do
    "#{error.code}: #{error.message}#{places(error.where)}#{hint(error.hint)}"
  end

  @doc false
  # An error as it comes in a frame.
  @spec from_wire(term()) :: t()
  def from_wire(%{code: code, message: message} = error) do
    %__MODULE__{
      code: code,
      message: message,
      where: Map.get(error, :where) || %{},
      hint: Map.get(error, :hint),
      reason: Map.get(error, :reason)
    }
  end

  def from_wire(other), do: internal("the port program sent an error of no known shape", other)

  @doc false
  @spec internal(String.t(), term()) :: t()
  def internal(what, term) do
    %__MODULE__{
      code: :internal,
      message: "#{what}: #{inspect(term, limit: 20, printable_limit: 200)}",
      hint: "this is a defect in Tank; please report it"
    }
  end

  @doc false
  # An error as it goes into a frame.
  @spec to_wire(t()) :: map()
  def to_wire(%__MODULE__{} = error), do: Map.take(error, [:code, :message, :where, :hint])

  defp places(where) when map_size(where) == 0, do: ""

  defp places(where) do
    " (" <> Enum.map_join(Enum.sort(where), ", ", fn {place, at} -> "#{place} #{at}" end) <> ")"
  end

  defp hint(nil), do: ""
  defp hint(hint), do: "\nhint: #{hint}"
end
