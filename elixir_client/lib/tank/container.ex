defmodule Tank.Container do
  @moduledoc """
  One container of a pod.

    * `:name` - unique in the pod
    * `:image` - an image reference (`"nginx:1.27"`), or `{:rootfs, path}`: a root file system on
      the host, which is never written to
    * `:command`, `:args` - the program and what follows it; the image's own when empty
    * `:env` - a map of texts; a key is not empty and has no `=`
    * `:working_dir` - an absolute path in the container, or `nil`
    * `:user` - `"user"`, `"uid"`, `"user:group"` or `"uid:gid"`, or `nil` for root. Names are those
      of the container's own `/etc/passwd` and `/etc/group`; without a group, it is the user's own,
      and those that list the user
    * `:mounts` - a list of `Tank.Mount`, unique by path
    * `:limits` - a map, see below
    * `:tty` - whether the program has a terminal; `false` by default

  All text is UTF-8 without NUL.

  ## Limits

    * `:memory` - bytes
    * `:memory_swap` - bytes of memory and swap together, or `:unlimited`; needs `:memory` and is
      not less
    * `:pids` - processes and threads
    * `:cpu` - `{quota_us, period_us}`: CPU time in each period
    * `:cpu_shares` - 2 to 262144, the share of CPU time where others want it too; 1024 without
    * `:nofile` - open files of a process
    * `:nice` - -20 to 19
    * `:oom_score_adj` - -1000 to 1000, see proc_pid_oom_score_adj(5)

  Other limits alone do not restart a pod, but for the last three, which a process inherits, and
  where the kernel cannot give them to what runs.

      iex> Tank.Container.new(name: "app", image: "nginx:1.27", limits: %{memory: 0})
      {:error, {:invalid_limit, :memory, 0}}
  """

  alias Tank.{Mount, Spec}

  @enforce_keys [:name, :image]
  defstruct name: nil,
            image: nil,
            command: [],
            args: [],
            env: %{},
            working_dir: nil,
            user: nil,
            mounts: [],
            limits: %{},
            tty: false

  @type image :: String.t() | {:rootfs, Path.t()}
  @type limits :: %{
          optional(:memory) => pos_integer(),
          optional(:memory_swap) => pos_integer() | :unlimited,
          optional(:pids) => pos_integer(),
          optional(:cpu) => {quota_us :: pos_integer(), period_us :: pos_integer()},
          optional(:cpu_shares) => 2..262_144,
          optional(:nofile) => pos_integer(),
          optional(:nice) => -20..19,
          optional(:oom_score_adj) => -1000..1000
        }
  @type t :: %__MODULE__{
          name: String.t(),
          image: image(),
          command: [String.t()],
          args: [String.t()],
          env: %{optional(String.t()) => String.t()},
          working_dir: Path.t() | nil,
          user: String.t() | nil,
          mounts: [Mount.t()],
          limits: limits(),
          tty: boolean()
        }

  @doc "Builds a container from a map or keyword, or says which rule it breaks."
  @spec new(map() | keyword()) :: {:ok, t()} | {:error, term()}
  def new(attrs) do
    Spec.build(__MODULE__, attrs,
      name: &Spec.name/1,
      image: &image/1,
      command: &Spec.texts/1,
      args: &Spec.texts/1,
      env: &env/1,
      working_dir: &working_dir/1,
      user: &user/1,
      mounts: &mounts/1,
      limits: &limits/1,
      tty: &Spec.one_of(&1, [true, false])
    )
  end

  @doc "Like `new/1`, but raises `ArgumentError`."
  @spec new!(map() | keyword()) :: t()
  def new!(attrs), do: attrs |> new() |> Spec.build!(__MODULE__)

  defp image({:rootfs, path} = image) do
    cond do
      not Spec.text?(path) -> {:error, {:invalid_image, image}}
      not Spec.absolute?(path) -> {:error, {:rootfs_path_not_absolute, path}}
      true -> {:ok, image}
    end
  end

  defp image(value) do
    if Spec.text?(value) and value != "",
      do: {:ok, value},
      else: {:error, {:invalid_image, value}}
  end

  defp env(value) do
    if is_map(value) and Enum.all?(Map.to_list(value), &variable?/1),
      do: {:ok, value},
      else: {:error, {:invalid_env, value}}
  end

  defp variable?({key, value}) do
    Spec.text?(key) and key != "" and not String.contains?(key, "=") and Spec.text?(value)
  end

  defp working_dir(nil), do: {:ok, nil}

  defp working_dir(path) do
    cond do
      not Spec.text?(path) -> {:error, {:invalid_working_dir, path}}
      not Spec.absolute?(path) -> {:error, {:working_dir_not_absolute, path}}
      true -> {:ok, path}
    end
  end

  defp user(nil), do: {:ok, nil}

  defp user(value) do
    if Spec.text?(value) and value != "", do: {:ok, value}, else: {:error, {:invalid_user, value}}
  end

  defp mounts(value) do
    with {:ok, mounts} <- Spec.list_of(value, Mount), do: Spec.unique(mounts, &Mount.place/1)
  end

  # The first wrong limit in the order of terms, so that the answer does not
  # depend on how a map is laid out.
  defp limits(value) when is_map(value) do
    case value |> Map.to_list() |> Enum.sort() |> Enum.find(&(not limit?(&1, value))) do
      nil -> {:ok, value}
      {key, wrong} -> {:error, {:invalid_limit, key, wrong}}
    end
  end

  defp limits(value), do: {:error, {:invalid_limits, value}}

  defp limit?({:memory, bytes}, _limits), do: Spec.positive?(bytes)
  defp limit?({:memory_swap, :unlimited}, limits), do: is_map_key(limits, :memory)

  defp limit?({:memory_swap, bytes}, limits),
    do: Spec.positive?(bytes) and bytes >= Map.get(limits, :memory)

  defp limit?({:pids, count}, _limits), do: Spec.positive?(count)

  defp limit?({:cpu, {quota, period}}, _limits),
    do: Spec.positive?(quota) and Spec.positive?(period)

  defp limit?({:cpu_shares, shares}, _limits), do: shares in 2..262_144
  defp limit?({:nofile, count}, _limits), do: Spec.positive?(count)
  defp limit?({:nice, nice}, _limits), do: nice in -20..19
  defp limit?({:oom_score_adj, adj}, _limits), do: adj in -1000..1000
  defp limit?(_other, _limits), do: false
end
