defmodule Tank.Wire do
  @moduledoc false

  # The port program's terms: how specs look in frames. Structs are for users,
  # maps with atom keys for the wire (docs/protocol.md, "Pods").

  @doc "The pod as the map that goes into a frame."
  @spec from_pod(Tank.Pod.t()) :: map()
  def from_pod(%Tank.Pod{} = pod), do: flatten(pod)

  defp flatten(%_{} = struct), do: struct |> Map.from_struct() |> Map.new(&flatten_field/1)
  defp flatten(list) when is_list(list), do: Enum.map(list, &flatten/1)
  defp flatten(other), do: other

  defp flatten_field({key, value}), do: {key, flatten(value)}
end
