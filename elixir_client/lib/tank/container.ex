defmodule Tank.Container do
  @moduledoc """
  One container of a pod.

    * `:name` - unique in the pod
    * `:image` - an image reference (`"nginx:1.27"`), or `{:rootfs, path}`: a root file system on
      the host, which is never written to
    * `:command`, `:args` - the program and what follows it; the image's own when empty
    * `:env` - a map of texts; a key is not empty and has no `=`. Nothing is inherited; `PATH`,
      `HOSTNAME` and `HOME` have defaults
    * `:working_dir` - an absolute path in the container, or `nil`
    * `:user` - `"user"`, `"uid"`, `"user:group"` or `"uid:gid"`, or `nil` for root. Names are those
      of the container's own `/etc/passwd` and `/etc/group`; without a group, it is the user's own,
      and those that list the user
    * `:mounts` - a list of `Tank.Mount`, unique by path
    * `:limits` - a map, see below
    * `:tty` - whether the program has a terminal; `false` by default. What it writes is logged
    * `:cap_add`, `:cap_drop` - lists of capabilities by name (`"NET_ADMIN"`, `"CAP_NET_ADMIN"`) or
      `:all`, to add to docker's default ones and to drop from them. What is dropped counts first,
      unless all are added
    * `:seccomp` - `:default` (docker's default profile), `:unconfined`, or the absolute path of a
      profile on the host, in JSON as docker and the OCI runtime specification have it
    * `:privileged` - `true` gives every capability that Tank has, no seccomp profile but one that is
      named, and the kernel's files as they are. Such a container can take over the machine
    * `:read_only` - `true` makes the root read-only; what is mounted in it is not
    * `:sidecar` - `true` for one that only serves the others: the pod is over when they are. Not for
      an init container
    * `:stop_signal` - what asks it to end: a signal by name (`"INT"`, `"SIGINT"`, `"RTMIN+3"`), in any
      case, or by number, 1 to 64; it is kept as its name without `SIG`. `nil` is `"TERM"`
    * `:stop_grace_ms` - milliseconds from when the stop was asked for to the kill, 0 to 86400000, or
      `nil` for the runtime's own, 10000 unless `:runtime_opts` says otherwise. A supervisor that stops
      Tank waits for the runtime's own; a longer one is kept to all the same
    * `:pre_stop` - a command that runs in it before the signal; none when empty. It is part of the
      grace, and the stop goes on when it fails
    * `:init` - `true` for a small init as its first process, which reaps and forwards signals, and
      exits with 128 and its number where a signal has ended the command

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

  Nor does another `:stop_signal`, `:stop_grace_ms` or `:pre_stop`.

      iex> Tank.Container.new!(name: "app", image: "nginx:1.27", stop_signal: "sigquit").stop_signal
      "QUIT"

      iex> Tank.Container.new(name: "app", image: "nginx:1.27", limits: %{memory: 0})
      {:error, {:invalid_limit, :memory, 0}}
  """

  alias Tank.{Mount, Signal, Spec}

  @capabilities ~w(
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
    SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
    WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
  )

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
            tty: false,
            cap_add: [],
            cap_drop: [],
            seccomp: :default,
            privileged: false,
            read_only: false,
            sidecar: false,
            stop_signal: nil,
            stop_grace_ms: nil,
            pre_stop: [],
            init: false

  @grace_ms_max 86_400_000

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
  @type capability :: String.t() | :all
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
          tty: boolean(),
          cap_add: [capability()],
          cap_drop: [capability()],
          seccomp: :default | :unconfined | Path.t(),
          privileged: boolean(),
          read_only: boolean(),
          sidecar: boolean(),
          stop_signal: String.t() | 1..64 | nil,
          stop_grace_ms: 0..86_400_000 | nil,
          pre_stop: [String.t()],
          init: boolean()
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
      tty: &Spec.one_of(&1, [true, false]),
      cap_add: &capabilities/1,
      cap_drop: &capabilities/1,
      seccomp: &seccomp/1,
      privileged: &Spec.one_of(&1, [true, false]),
      read_only: &Spec.read_only/1,
      sidecar: &Spec.one_of(&1, [true, false]),
      stop_signal: &stop_signal/1,
      stop_grace_ms: &stop_grace_ms/1,
      pre_stop: &Spec.texts/1,
      init: &Spec.one_of(&1, [true, false])
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

  # One spelling of each, once, in the order of terms, so that specs that mean
  # the same are the same.
  defp capabilities(value) do
    with {:ok, names} <- Spec.each(value, &capability/1),
         do: {:ok, names |> Enum.uniq() |> Enum.sort()}
  end

  defp capability(:all), do: {:ok, :all}

  defp capability(value) when is_binary(value) do
    case String.upcase(value, :ascii) do
      "ALL" -> {:ok, :all}
      "CAP_" <> name when name in @capabilities -> {:ok, name}
      name when name in @capabilities -> {:ok, name}
      _unknown -> {:error, {:invalid_capability, value}}
    end
  end

  defp capability(value), do: {:error, {:invalid_capability, value}}

  defp seccomp(word) when word in [:default, :unconfined], do: {:ok, word}

  defp seccomp(path) do
    cond do
      not Spec.text?(path) -> {:error, {:invalid_seccomp, path}}
      not Spec.absolute?(path) -> {:error, {:seccomp_path_not_absolute, path}}
      true -> {:ok, path}
    end
  end

  defp stop_signal(nil), do: {:ok, nil}

  defp stop_signal(value) do
    with :error <- Signal.canonical(value), do: {:error, {:invalid_stop_signal, value}}
  end

  defp stop_grace_ms(nil), do: {:ok, nil}
  defp stop_grace_ms(ms) when is_integer(ms) and ms in 0..@grace_ms_max, do: {:ok, ms}
  defp stop_grace_ms(value), do: {:error, {:invalid_stop_grace_ms, value}}

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
