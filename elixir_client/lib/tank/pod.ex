defmodule Tank.Pod do
  @moduledoc """
  A pod: one or more containers that share a fate, a network and volumes.

    * `:name` - unique; 1 to 63 bytes of `a-z A-Z 0-9 . _ -`, first and last alphanumeric
    * `:containers` - at least one `Tank.Container`, unique by name
    * `:network` - `:none` (loopback only, the default), `:host`, or a `Tank.Pod.Network`
    * `:volumes` - a list of `Tank.Volume`, unique by name; every mount names one of them
    * `:restart` - `:always` (after any exit, the default), `:on_failure` (after an abnormal
      one) or `:never`

  Nested structs may be given as maps or keywords. They are checked again when they are structs.

      iex> {:ok, pod} = Tank.Pod.new(name: "web", containers: [%{name: "app", image: "nginx:1.27"}])
      iex> {pod.network, pod.volumes, pod.restart}
      {:none, [], :always}

      iex> Tank.Pod.new(name: "web", restartt: :never)
      {:error, {:unknown_keys, [:restartt]}}
  """

  alias Tank.{Container, Spec, Volume}
  alias Tank.Pod.Network

  @enforce_keys [:name, :containers]
  defstruct name: nil, containers: [], network: :none, volumes: [], restart: :always

  @type network :: :none | :host | Network.t()
  @type restart :: :always | :on_failure | :never
  @type t :: %__MODULE__{
          name: String.t(),
          containers: [Container.t(), ...],
          network: network(),
          volumes: [Volume.t()],
          restart: restart()
        }

  @restarts [:always, :on_failure, :never]

  @doc "Builds a pod from a map or keyword, or says which rule it breaks first."
  @spec new(map() | keyword()) :: {:ok, t()} | {:error, term()}
  def new(attrs) do
    built =
      Spec.build(__MODULE__, attrs,
        name: &Spec.name/1,
        containers: &containers/1,
        volumes: &volumes/1,
        network: &network/1,
        restart: &Spec.one_of(&1, @restarts)
      )

    with {:ok, pod} <- built, do: resolve_mounts(pod)
  end

  @doc "Like `new/1`, but raises `ArgumentError`."
  @spec new!(map() | keyword()) :: t()
  def new!(attrs), do: attrs |> new() |> Spec.build!(__MODULE__)

  defp containers(value) do
    case Spec.list_of(value, Container) do
      {:ok, []} -> {:error, :no_containers}
      {:ok, containers} -> Spec.unique(containers, & &1.name)
      error -> error
    end
  end

  defp volumes(value) do
    with {:ok, volumes} <- Spec.list_of(value, Volume), do: Spec.unique(volumes, & &1.name)
  end

  defp network(value) when value in [:none, :host], do: {:ok, value}

  defp network(value) do
    if is_map(value) or Keyword.keyword?(value),
      do: Network.new(value),
      else: {:error, {:invalid_network, value}}
  end

  defp resolve_mounts(pod) do
    known = MapSet.new(pod.volumes, & &1.name)

    unknown =
      for container <- pod.containers,
          mount <- container.mounts,
          mount.volume not in known,
          do: {container.name, mount.volume}

    if unknown == [], do: {:ok, pod}, else: {:error, {:unknown_volume_refs, unknown}}
  end
end
