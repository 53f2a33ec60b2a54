%%% Every atom that `tank port` may send (docs/protocol.md, "Atoms").
-define(TANK_ATOMS,
    %% The greeting
    [hello, protocol, protocol_min, version, host, pid, cgroup, v1, hybrid, v2, root, kernel,
     %% Envelopes, values and requests
     ok, error, notice, chunk, nil, true, false, generation, changed, spec, seq, start, stop, kill,
     host_pid,
     %% Pods
     name, restart, always, on_failure, never, network, none, nics, dns, mode, macvlan, bridge,
     ipvlan, parent, auto, ip, dhcp, ipam, gateway, volumes, source, managed, tmpfs, containers,
     image, rootfs, command, args, env, working_dir, user, tty, mounts, volume, path, read_only,
     limits, memory, memory_swap, unlimited, pids, cpu, cpu_shares, nofile, nice, oom_score_adj,
     cap_add, cap_drop, all, seccomp, default, unconfined, privileged, init_containers, userns,
     oci_runtime, sidecar, stop_signal, stop_grace_ms, pre_stop, init,
     %% Status
     status, starting, running, stopping, backing_off, terminal, retries, phase, launching,
     restarting, deleting, sweeping, waiting, done, reason, last_exit, last_exit_container,
     last_exit_at_ms, started_at_ms, retry_in_ms, incarnation, exited, signaled,
     %% Notices
     started, ended, failed, gone, resync,
     %% Plans
     action, create, adjust, replace, changes,
     %% Events
     at_ms, event, applied, adopted, exit,
     %% Errors
     code, message, where, hint, pod, container, field, step, errno, option, offset,
     malformed_frame, frame_too_large, protocol_mismatch, handshake_required, unknown_op, bad_args,
     invalid_spec, unsupported, not_found, exists, store_failed, store_corrupt, locked,
     not_permitted, start_failed, stop_failed, image_unavailable, runtime_failed, lost,
     shutting_down, busy, bad_option, timeout, internal,
     %% Reasons
     unknown_keys, invalid_name, not_allowed, duplicate, no_containers, unknown_volume_refs,
     invalid_image, rootfs_path_not_absolute, invalid_env, invalid_user, invalid_working_dir,
     working_dir_not_absolute, invalid_limits, invalid_limit, invalid_ip, invalid_ipv4,
     invalid_parent, invalid_ipam_subnet, invalid_dns, invalid_network, host_path_not_absolute,
     invalid_source, mount_path_not_absolute, invalid_mount_path, invalid_read_only,
     invalid_capability, invalid_seccomp, seccomp_path_not_absolute, invalid_stop_signal,
     invalid_stop_grace_ms, invalid_oci_runtime, not_a_list, not_a_string_list, cannot_build,
     'Elixir.Tank.Pod', 'Elixir.Tank.Container',
     'Elixir.Tank.Mount', 'Elixir.Tank.Volume', 'Elixir.Tank.Nic', 'Elixir.Tank.Pod.Network'
    ]).
