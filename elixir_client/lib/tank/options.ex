defmodule Tank.Options do
  @moduledoc false

  # Everything that `Tank.Reconciler` can be told, checked once before a process
  # or a port exists. Owns the defaults and the port program's command line.

  alias Tank.{Pod, Spec}

  # Specs hold secrets, and a crash report holds the options.
  @derive {Inspect, except: [:pods, :runtime_opts]}
  @enforce_keys [:name]
  defstruct name: Tank.Reconciler,
            runtime: Tank.Runtime,
            owner: nil,
            runtime_opts: [],
            interval: 5_000,
            backoff_base: 10_000,
            backoff_cap: 300_000,
            stable_window: 600_000,
            data_dir: nil,
            run_dir: nil,
            store: :durable,
            pods: [],
            on_shutdown: :stop,
            on_disconnect: :keep,
            binary: nil

  @type t :: %__MODULE__{
          name: GenServer.name(),
          runtime: module(),
          owner: pid() | nil,
          runtime_opts: keyword(),
          interval: pos_integer(),
          backoff_base: pos_integer(),
          backoff_cap: pos_integer(),
          stable_window: pos_integer(),
          data_dir: Path.t() | nil,
          run_dir: Path.t() | nil,
          store: :durable | :memory,
          pods: [Pod.t()],
          on_shutdown: :stop | :keep,
          on_disconnect: :keep | :stop | {:stop, non_neg_integer()},
          binary: Path.t() | nil
        }

  @stop_grace_ms 10_000
  # A program that was killed, or whose BEAM process was, may need a moment to
  # let go of its data directory. Longer waits are the supervisor's.
  @lock_wait_ms 2_000
  # `:image` belongs to pulling, and trees that were written with it still start.
  @runtime_keys [:stop_grace_ms, :cgroup_parent, :shim, :image]

  @doc "The options as a struct. Raises `ArgumentError` with the option and the rule."
  @spec new!(keyword()) :: t()
  def new!(opts) do
    unless Keyword.keyword?(opts), do: refuse("expected a keyword list, got: #{inspect(opts)}")

    options = Enum.reduce(opts, %__MODULE__{name: Tank.Reconciler}, &put!/2)
    check_runtime_opts!(options)
    options
  end

  defp put!({key, value}, options) when is_map_key(options, key) and key != :__struct__ do
    case check(key, value) do
      {:ok, value} -> Map.put(options, key, value)
      {:error, rule} -> refuse(key, rule, value)
    end
  end

  defp put!({key, _value}, _options) do
    known = %__MODULE__{name: nil} |> Map.from_struct() |> Map.keys() |> Enum.sort()
    refuse("unknown option #{inspect(key)}, expected one of: #{inspect(known)}")
  end

  defp check(key, value) when key in [:interval, :backoff_base, :backoff_cap, :stable_window] do
    expect(value, Spec.positive?(value), "a positive number of milliseconds")
  end

  defp check(key, value) when key in [:data_dir, :run_dir, :binary] do
    if is_nil(value) or (Spec.text?(value) and value != ""),
      do: {:ok, value && Path.expand(value)},
      else: {:error, "a path"}
  end

  defp check(:name, {kind, _term} = name) when kind == :global, do: {:ok, name}
  defp check(:name, {:via, module, _term} = name) when is_atom(module), do: {:ok, name}

  defp check(:name, value) do
    expect(value, is_atom(value) and value not in [nil, true, false], "a GenServer name")
  end

  defp check(:runtime, value) do
    loaded? = is_atom(value) and Code.ensure_loaded?(value)
    runtime? = value == Tank.Runtime or (loaded? and function_exported?(value, :child_spec, 1))
    expect(value, runtime?, "a module with child_spec/1")
  end

  defp check(:owner, value), do: expect(value, is_nil(value) or is_pid(value), "a pid")
  defp check(:runtime_opts, value), do: expect(value, Keyword.keyword?(value), "a keyword list")

  defp check(:store, value),
    do: expect(value, value in [:durable, :memory], ":durable or :memory")

  defp check(:on_shutdown, value), do: expect(value, value in [:stop, :keep], ":stop or :keep")

  defp check(:on_disconnect, {:stop, 0} = value), do: {:ok, value}

  defp check(:on_disconnect, {:stop, after_ms} = value) do
    expect(value, Spec.positive?(after_ms), "{:stop, milliseconds}")
  end

  defp check(:on_disconnect, value) do
    expect(value, value in [:keep, :stop], ":keep, :stop or {:stop, milliseconds}")
  end

  defp check(:pods, value) do
    case Spec.list_of(value, Pod) do
      {:ok, pods} -> {:ok, pods}
      {:error, reason} -> {:error, "a list of pod specs (#{inspect(reason)})"}
    end
  end

  defp expect(value, true, _rule), do: {:ok, value}
  defp expect(_value, false, rule), do: {:error, rule}

  defp check_runtime_opts!(%{runtime: Tank.Runtime, runtime_opts: opts}) do
    for {key, value} <- opts do
      case check_runtime_opt(key, value) do
        :ok ->
          :ok

        :unknown ->
          refuse(unknown_runtime_opt(key))

        rule ->
          refuse("invalid option runtime_opts: #{key}: expected #{rule}, got: #{inspect(value)}")
      end
    end
  end

  defp check_runtime_opts!(_injected), do: :ok

  defp check_runtime_opt(:stop_grace_ms, value) do
    if value == 0 or Spec.positive?(value), do: :ok, else: "a number of milliseconds"
  end

  defp check_runtime_opt(key, value) when key in [:shim, :cgroup_parent] do
    if Spec.text?(value) and value != "", do: :ok, else: "a path"
  end

  defp check_runtime_opt(:image, _value), do: :ok
  defp check_runtime_opt(_key, _value), do: :unknown

  defp unknown_runtime_opt(key) do
    "unknown option runtime_opts: #{key}, expected one of: #{inspect(@runtime_keys)}"
  end

  defp refuse(key, rule, value) do
    refuse("invalid option #{inspect(key)}: expected #{rule}, got: #{inspect(value)}")
  end

  defp refuse(message), do: raise(ArgumentError, message)

  @doc "The options with their directories, which may come from `Tank.Store`."
  @spec with_dirs(t(), Path.t() | nil) :: t()
  def with_dirs(options, data_dir) do
    data_dir = options.data_dir || data_dir || default_data_dir()
    %{options | data_dir: data_dir, run_dir: options.run_dir || run_dir(data_dir)}
  end

  @doc "How long a workload has between the stop signal and the kill."
  @spec stop_grace_ms(t()) :: non_neg_integer()
  def stop_grace_ms(options),
    do: Keyword.get(options.runtime_opts, :stop_grace_ms, @stop_grace_ms)

  @doc "The port program."
  @spec binary(t()) :: Path.t()
  def binary(options), do: options.binary || Application.app_dir(:tank, "priv/tank")

  @doc "The port program's arguments."
  @spec argv(t(), :container | :client | :none) :: [String.t()]
  def argv(options, runtime) do
    flags = [
      data_dir: options.data_dir,
      run_dir: options.run_dir,
      store: options.store,
      runtime: runtime,
      interval_ms: options.interval,
      backoff_base_ms: options.backoff_base,
      backoff_cap_ms: options.backoff_cap,
      stable_window_ms: options.stable_window,
      on_disconnect: on_disconnect(options.on_disconnect),
      lock_wait_ms: @lock_wait_ms
    ]

    ["port" | Enum.flat_map(flags ++ runtime_flags(options), &flag/1)]
  end

  defp runtime_flags(%{runtime: Tank.Runtime} = options) do
    [
      {:stop_grace_ms, stop_grace_ms(options)}
      | Keyword.take(options.runtime_opts, [:shim, :cgroup_parent])
    ]
  end

  defp runtime_flags(_injected), do: []

  defp flag({key, value}), do: ["--" <> String.replace("#{key}", "_", "-"), "#{value}"]

  defp on_disconnect({:stop, after_ms}), do: "stop-after-ms=#{after_ms}"
  defp on_disconnect(policy), do: policy

  defp default_data_dir do
    cond do
      root?() -> "/var/lib/tank"
      dir = System.get_env("XDG_DATA_HOME") -> Path.join(dir, "tank")
      true -> Path.join(System.user_home!(), ".local/share/tank")
    end
  end

  # Gone after a reboot, and never the same for two data directories.
  defp run_dir(data_dir) do
    base =
      cond do
        root?() -> "/run/tank"
        dir = System.get_env("XDG_RUNTIME_DIR") -> Path.join(dir, "tank")
        # A name in a directory for all could be somebody else's already.
        true -> Path.join(data_dir, "run")
      end

    digest = :erlang.md5(data_dir) |> binary_part(0, 8) |> Base.encode16(case: :lower)
    Path.join(base, digest)
  end

  defp root?, do: File.stat!("/proc/self").uid == 0
end
