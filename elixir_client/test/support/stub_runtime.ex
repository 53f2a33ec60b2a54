defmodule Tank.StubRuntime do
  @moduledoc false

  # An injected runtime: a process that is there, and does what a pod's command
  # says instead of running it.
  #
  #     ["/nonexistent"]   cannot be started
  #     ["hang"]           never finishes starting
  #     ["ignore"]         takes 2 s to stop
  #     ["announce"]       tells its owner {:running, 4242}

  use GenServer, restart: :permanent

  def start_link({pod, opts}), do: GenServer.start_link(__MODULE__, {pod, opts})

  @impl true
  def init({%{containers: [%{command: command}]} = pod, opts}), do: begin(command, pod, opts)

  defp begin(["/nonexistent"], _pod, _opts), do: {:stop, :enoent}
  defp begin(["hang"], _pod, _opts), do: Process.sleep(:infinity)

  defp begin(["announce"], pod, opts) do
    send(opts[:owner], {:tank, pod.name, {:running, 4242}})
    {:ok, pod}
  end

  defp begin(["ignore"], pod, _opts) do
    Process.flag(:trap_exit, true)
    {:ok, pod}
  end

  defp begin(_command, pod, _opts), do: {:ok, pod}

  @impl true
  def terminate(_reason, %{containers: [%{command: ["ignore"]}]}), do: Process.sleep(2_000)
  def terminate(_reason, _pod), do: :ok
end
