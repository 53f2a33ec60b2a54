defmodule Tank.Wire do
  @moduledoc false

  # The frames of docs/protocol.md as terms, and nothing of what they mean.
  # Frames are decoded without making atoms; every atom that the port program
  # sends is listed here, so that it exists.

  alias Tank.{Error, Pod}

  @frame_bytes_max 16 * 1024 * 1024

  @protocol [:hello, :protocol, :protocol_min, :version, :host, :pid, :cgroup, :v1, :hybrid] ++
              [:v2, :root, :kernel, :ok, :error, :notice, :chunk, nil, true, false]
  @values [:generation, :changed, :spec, :seq]
  @plans [:action, :changes, :create, :none, :adjust, :replace, :start]
  @requests [:start, :stop, :kill, :host_pid]
  @pods [:name, :restart, :always, :on_failure, :never, :network, :none, :nics, :dns, :mode] ++
          [:macvlan, :bridge, :ipvlan, :parent, :auto, :ip, :dhcp, :ipam, :gateway, :volumes] ++
          [:source, :managed, :tmpfs, :containers, :image, :rootfs, :command, :args, :env] ++
          [:working_dir, :user, :tty, :mounts, :volume, :path, :read_only, :limits, :memory] ++
          [:memory_swap, :unlimited, :pids, :cpu, :cpu_shares, :nofile, :nice, :oom_score_adj] ++
          [:cap_add, :cap_drop, :all, :seccomp, :default, :unconfined, :privileged] ++
          [:init_containers, :userns, :oci_runtime, :sidecar, :stop_signal, :stop_grace_ms] ++
          [:pre_stop, :init]
  @statuses [:status, :starting, :running, :stopping, :backing_off, :terminal, :retries] ++
              [:phase, :launching, :restarting, :deleting, :sweeping, :waiting, :done] ++
              [:reason, :last_exit, :last_exit_container, :last_exit_at_ms, :started_at_ms] ++
              [:retry_in_ms, :incarnation, :exited, :signaled]
  @notices [:started, :ended, :failed, :gone, :resync]
  @events [:at_ms, :event, :applied, :adopted, :exit]
  @errors [:code, :message, :where, :hint, :pod, :container, :field, :step, :errno, :option] ++
            [:offset, :malformed_frame, :frame_too_large, :protocol_mismatch] ++
            [:handshake_required, :unknown_op, :bad_args, :invalid_spec, :unsupported] ++
            [:not_found, :exists, :store_failed, :store_corrupt, :locked, :not_permitted] ++
            [:start_failed, :stop_failed, :image_unavailable, :runtime_failed, :lost] ++
            [:timeout, :shutting_down, :busy, :bad_option, :internal]
  @reasons [:unknown_keys, :invalid_name, :not_allowed, :duplicate, :no_containers] ++
             [:unknown_volume_refs, :invalid_image, :rootfs_path_not_absolute, :invalid_env] ++
             [:invalid_user, :invalid_working_dir, :working_dir_not_absolute] ++
             [:invalid_limits, :invalid_limit, :invalid_ip, :invalid_ipv4, :invalid_parent] ++
             [:invalid_ipam_subnet, :invalid_dns, :invalid_network, :host_path_not_absolute] ++
             [:invalid_source, :mount_path_not_absolute, :invalid_mount_path] ++
             [:invalid_read_only, :invalid_capability, :invalid_seccomp] ++
             [:seccomp_path_not_absolute, :invalid_stop_signal, :invalid_stop_grace_ms] ++
             [:invalid_oci_runtime, :not_a_list, :not_a_string_list, :cannot_build] ++
             [Tank.Pod, Tank.Container, Tank.Mount, Tank.Volume, Tank.Nic, Tank.Pod.Network]

  @atoms Enum.uniq(
           @protocol ++
             @values ++
             @plans ++
             @requests ++ @pods ++ @statuses ++ @notices ++ @events ++ @errors ++ @reasons
         )

  @doc "Every atom the port program may send."
  @spec atoms() :: [atom()]
  def atoms, do: @atoms

  @doc "The term as a frame, or an error when it would be too large."
  @spec encode(term()) :: {:ok, iodata(), non_neg_integer()} | {:error, Error.t()}
  def encode(term) do
    frame = :erlang.term_to_iovec(term)
    bytes = :erlang.iolist_size(frame)

    if bytes <= @frame_bytes_max, do: {:ok, frame, bytes}, else: {:error, too_large(bytes)}
  end

  defp too_large(bytes) do
    %Error{
      code: :frame_too_large,
      message: "the request takes #{bytes} bytes and a frame holds #{@frame_bytes_max}"
    }
  end

  @doc "The term in a frame."
  @spec decode(binary()) :: {:ok, term()} | {:error, Error.t()}
  def decode(frame) do
    {:ok, :erlang.binary_to_term(frame, [:safe])}
  rescue
    ArgumentError -> {:error, Error.internal("a frame of the port program cannot be read", frame)}
  end

  @doc "The pod as the map that goes into a frame."
  @spec from_pod(Pod.t()) :: map()
  def from_pod(%Pod{} = pod), do: flatten(pod)

  defp flatten(%_{} = struct), do: struct |> Map.from_struct() |> Map.new(&flatten_field/1)
  defp flatten(list) when is_list(list), do: Enum.map(list, &flatten/1)
  defp flatten(other), do: other

  defp flatten_field({key, value}), do: {key, flatten(value)}

  @doc "The pod of a frame. The port program sends none that breaks a rule."
  @spec to_pod!(map()) :: Pod.t()
  def to_pod!(map) do
    case Pod.new(map) do
      {:ok, pod} -> pod
      {:error, reason} -> raise Error.internal("the port program sent a wrong pod", reason)
    end
  end
end
