defmodule Tank.Pod do
  @moduledoc """
  A pod: one or more containers that share a fate, a network and volumes.

    * `:name` - unique; 1 to 63 bytes of `a-z A-Z 0-9 . _ -`, first and last alphanumeric
    * `:containers` - a list of `Tank.Container`, at least one of them no sidecar
    * `:init_containers` - a list of `Tank.Container` that run before those, one after the other. No
      two containers of a pod have one name, whichever list they are in
    * `:network` - `:none` (loopback only, the default), `:host`, or a `Tank.Pod.Network`
    * `:volumes` - a list of `Tank.Volume`, unique by name; every mount names one of them
    * `:restart` - `:always` (after any exit, the default), `:on_failure` (after an abnormal
      one) or `:never`
    * `:userns` - `:host` (the containers' users are the host's, the default) or `:auto` (they are
      the pod's own: root inside is nobody on the host. `docs/confinement.md` says what that takes)
    * `:oci_runtime` - the OCI runtime that launches the containers below Tank, by name (`"crun"`, `"runc"`)
      or by its absolute path; Tank itself when `nil`. All else stays as it is: limits, output, stops. It
      cannot be together with `:tty`, `:init` or `userns: :auto` (`docs/oci-runtimes.md` says what else)

  Nested structs may be given as maps or keywords. They are checked again when they are structs.

      iex> {:ok, pod} = Tank.Pod.new(name: "web", containers: [%{name: "app", image: "nginx:1.27"}])
      iex> {pod.network, pod.volumes, pod.restart}
      {:none, [], :always}

      iex> Tank.Pod.new(name: "web", restartt: :never)
      {:error, {:unknown_keys, [:restartt]}}

  ## Rules

  What `{:error, reason}` says, of a pod or of anything in it. The first rule that is broken is
  told.

  | Reason | When |
  |---|---|
  | `{:unknown_keys, keys}` | a map, a keyword or a struct has keys that are not its own |
  | `{:invalid_name, value}` | it is not a name, or it is missing |
  | `{:not_allowed, value, allowed}` | `:restart`, `:userns`, `:mode`, `:tty`, `:privileged`, `:sidecar` or `:init` is something else, or an init container is a sidecar |
  | `{:duplicate, names}` | containers, volumes, nics or mount paths are not unique |
  | `:no_containers` | the list of containers is empty or missing, or all are sidecars |
  | `{:unknown_volume_refs, [{container, volume}]}` | a mount names no volume of the pod |
  | `{:invalid_image, value}`, `{:rootfs_path_not_absolute, path}` | see `Tank.Container` |
  | `{:invalid_env, value}`, `{:invalid_user, value}` | see `Tank.Container` |
  | `{:invalid_working_dir, value}`, `{:working_dir_not_absolute, path}` | see `Tank.Container` |
  | `{:invalid_limits, value}`, `{:invalid_limit, key, value}` | see `Tank.Container` |
  | `{:invalid_mount_path, value}`, `{:mount_path_not_absolute, path}`, `{:invalid_read_only, value}` | see `Tank.Mount` |
  | `{:invalid_capability, value}`, `{:invalid_seccomp, value}`, `{:seccomp_path_not_absolute, path}` | see `Tank.Container` |
  | `{:invalid_stop_signal, value}`, `{:invalid_stop_grace_ms, value}` | see `Tank.Container` |
  | `{:invalid_oci_runtime, value}` | it is no text, empty, or a path that is not absolute |
  | `{:invalid_source, value}`, `{:host_path_not_absolute, path}` | see `Tank.Volume` |
  | `{:invalid_network, value}`, `{:invalid_dns, value}` | see `Tank.Pod.Network` |
  | `{:invalid_ip, value}`, `{:invalid_ipv4, value}`, `{:invalid_ipam_subnet, value}`, `{:invalid_parent, value}` | see `Tank.Nic` |
  | `{:not_a_list, value}`, `{:not_a_string_list, value}`, `{:cannot_build, module, value}` | another shape |
  | `{:invalid_pod_spec, value}` | `Tank.apply/1` got no map, keyword or struct |
  """

  alias Tank.{Container, Spec, Volume}
  alias Tank.Pod.Network

  @enforce_keys [:name, :containers]
  defstruct name: nil,
            containers: [],
            init_containers: [],
            network: :none,
            volumes: [],
            restart: :always,
            userns: :host,
            oci_runtime: nil

  @type network :: :none | :host | Network.t()
  @type restart :: :always | :on_failure | :never
  @type userns :: :host | :auto
  @type t :: %__MODULE__{
          name: String.t(),
          containers: [Container.t(), ...],
          init_containers: [Container.t()],
          network: network(),
          volumes: [Volume.t()],
          restart: restart(),
          userns: userns(),
          oci_runtime: String.t() | nil
        }

  @restarts [:always, :on_failure, :never]

  @doc "Builds a pod from a map or keyword, or says which rule it breaks first."
  @spec new(map() | keyword()) :: {:ok, t()} | {:error, term()}
  def new(attrs) do
    built =
      Spec.build(__MODULE__, attrs,
        name: &Spec.name/1,
        containers: &containers/1,
        init_containers: &init_containers/1,
        volumes: &volumes/1,
        network: &network/1,
        restart: &Spec.one_of(&1, @restarts),
        userns: &Spec.one_of(&1, [:host, :auto]),
        oci_runtime: &oci_runtime/1
      )

    with {:ok, pod} <- built,
         {:ok, _containers} <- Spec.unique(every_container(pod), & &1.name),
         do: resolve_mounts(pod)
  end

  @doc "Like `new/1`, but raises `ArgumentError`."
  @spec new!(map() | keyword()) :: t()
  def new!(attrs), do: attrs |> new() |> Spec.build!(__MODULE__)

  defp containers(value) do
    with {:ok, containers} <- Spec.list_of(value, Container) do
      if Enum.all?(containers, & &1.sidecar),
        do: {:error, :no_containers},
        else: Spec.unique(containers, & &1.name)
    end
  end

  defp init_containers(value), do: Spec.each(value, &init_container/1)

  defp init_container(value) do
    with {:ok, container} <- Container.new(value),
         {:ok, false} <- Spec.one_of(container.sidecar, [false]),
         do: {:ok, container}
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

  defp oci_runtime(nil), do: {:ok, nil}

  defp oci_runtime(value) do
    if Spec.text?(value) and value != "" and
         (Spec.absolute?(value) or not String.contains?(value, "/")),
       do: {:ok, value},
       else: {:error, {:invalid_oci_runtime, value}}
  end

  defp every_container(pod), do: pod.containers ++ pod.init_containers

  defp resolve_mounts(pod) do
    known = MapSet.new(pod.volumes, & &1.name)

    unknown =
      for container <- every_container(pod),
          mount <- container.mounts,
          mount.volume not in known,
          do: {container.name, mount.volume}

    if unknown == [], do: {:ok, pod}, else: {:error, {:unknown_volume_refs, unknown}}
  end
end
