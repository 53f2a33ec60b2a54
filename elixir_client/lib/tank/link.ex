defmodule Tank.Link do
  @moduledoc false

  # One port program and the conversation with it: opening and handshake, ids
  # and who waits for them, putting together what comes in chunks, and writing
  # without ever being held up. It is data
  # that a GenServer keeps and feeds its messages to; it knows nothing of pods.

  require Logger

  alias Tank.{Error, Wire}

  # The newest and the oldest version of the protocol that are spoken here.
  @protocol 1
  @protocol_min 1
  @hello_ms_max 30_000
  @flush_ms 5
  @pending_max 65_536
  @outbox_bytes_max 64 * 1024 * 1024
  @chunk_bytes 64 * 1024
  @reply_bytes_max 256 * 1024 * 1024

  # What waits to be written is specs, which hold secrets.
  @derive {Inspect, only: [:port, :os_pid, :outbox_bytes, :last_error]}
  @enforce_keys [:port, :os_pid]
  defstruct port: nil,
            os_pid: nil,
            next_id: 1,
            pending: %{},
            # id => {bytes, chunks, the last one first}
            chunks: %{},
            outbox: :queue.new(),
            outbox_bytes: 0,
            last_error: nil

  @opaque t :: %__MODULE__{}
  @type tag :: term()
  @type result :: {:ok, term()} | {:error, Error.t()}
  @type event ::
          {:reply, tag(), result()}
          | {:reply_begun, tag()}
          | {:request, pos_integer(), atom(), term()}
          | {:cast, atom(), term()}
          | {:notice, term()}
          | {:down, Error.t(), [tag()]}
          | :none

  @doc "Runs the port program and shakes hands. The caller must trap exits."
  @spec open(Path.t(), [String.t()]) :: {:ok, t()} | {:error, Error.t()}
  def open(binary, argv) do
    with {:ok, link} <- run(binary, argv),
         :ok <- shake_hands(link),
         do: {:ok, link}
  end

  defp run(binary, argv) do
    port =
      Port.open(
        {:spawn_executable, String.to_charlist(binary)},
        [:binary, :exit_status, :use_stdio, :hide, packet: 4, args: argv]
      )

    {:os_pid, os_pid} = Port.info(port, :os_pid) || {:os_pid, nil}
    {:ok, %__MODULE__{port: port, os_pid: os_pid}}
  rescue
    error in ErlangError -> {:error, cannot_run(binary, error.original)}
  end

  defp cannot_run(binary, reason) do
    %Error{
      code: :disconnected,
      message: "run the port program: #{:file.format_error(reason)}",
      where: %{path: binary},
      hint: "`mix compile` builds it; the :binary option names another"
    }
  end

  defp shake_hands(%{port: port} = link) do
    receive do
      {^port, {:data, frame}} -> answer_hello(link, Wire.decode(frame))
      {^port, {:exit_status, status}} -> give_up(link, exited(status))
      {:EXIT, ^port, reason} -> give_up(link, broken(reason))
    after
      @hello_ms_max -> give_up(link, no_hello())
    end
  end

  # A program that speaks no version of ours is greeted all the same: it reads
  # what we speak, and says so where its operator looks.
  defp answer_hello(link, {:ok, {:hello, %{protocol: newest} = about}}) do
    oldest = Map.get(about, :protocol_min, newest)
    chosen = min(newest, @protocol)

    hello = %{
      protocol: chosen,
      client: "tank-elixir #{version()}",
      chunk_bytes: @chunk_bytes
    }

    if chosen in @protocol_min..@protocol and chosen >= oldest do
      greet(link, hello)
    else
      greet(link, %{hello | protocol: @protocol} |> Map.put(:protocol_min, @protocol_min))
      give_up(link, mismatch(range(oldest, newest)))
    end
  end

  defp answer_hello(link, {:ok, {:error, error}}), do: give_up(link, Error.from_wire(error))
  defp answer_hello(link, {:error, error}), do: give_up(link, error)

  defp answer_hello(link, {:ok, other}) do
    give_up(link, Error.internal("the port program began with another frame", other))
  end

  defp greet(link, hello) do
    {:ok, frame, _bytes} = Wire.encode({:hello, hello})
    Port.command(link.port, frame)
    :ok
  end

  defp mismatch(theirs) do
    ours = range(@protocol_min, @protocol)

    %Error{
      code: :protocol_mismatch,
      message: "the port program speaks protocol #{theirs} and this library #{ours}",
      hint: "build both from the same version"
    }
  end

  defp range(same, same), do: inspect(same)
  defp range(oldest, newest), do: "#{inspect(oldest)} to #{inspect(newest)}"

  defp give_up(link, error) do
    close(link)
    {:error, error}
  end

  defp version, do: :tank |> Application.spec(:vsn) |> to_string()

  @doc """
  Closes the port; the program sees the end of its input. One that does not read never would, and
  is killed: the port would wait for it, and the BEAM's end for the port.
  """
  @spec close(t()) :: :ok
  def close(%{port: port} = link) do
    if stuck?(link), do: kill(link.os_pid)
    Port.close(port)
    forget(port)
  rescue
    ArgumentError -> forget(port)
  end

  defp stuck?(link) do
    case Port.info(link.port, :queue_size) do
      {:queue_size, bytes} -> bytes > 0 or link.outbox_bytes > 0
      nil -> false
    end
  end

  # The shell's own kill: not every machine has another.
  defp kill(os_pid), do: System.shell("kill -KILL #{os_pid}", stderr_to_stdout: true)

  defp forget(port) do
    receive do
      {^port, _message} -> forget(port)
      {:EXIT, ^port, _reason} -> forget(port)
    after
      0 -> :ok
    end
  end

  @doc """
  Sends a request; `{:reply, tag, result}` comes of it exactly once, or `:down`. Before a large
  reply comes `{:reply_begun, tag}`: what the reply tells is of that moment.
  """
  @spec request(t(), atom(), term(), tag()) :: {:ok, t()} | {:error, Error.t()}
  def request(link, _op, _args, _tag) when map_size(link.pending) >= @pending_max do
    {:error, busy("#{@pending_max} requests wait for an answer")}
  end

  def request(link, op, args, tag) do
    with {:ok, sent} <- send_term(link, {link.next_id, op, args}) do
      {:ok,
       %{sent | next_id: link.next_id + 1, pending: Map.put(link.pending, link.next_id, tag)}}
    end
  end

  @doc "Sends what has no answer."
  @spec cast(t(), atom(), term()) :: t()
  def cast(link, op, args), do: send_or_log(link, {0, op, args})

  @doc "Answers a request of the program."
  @spec reply(t(), pos_integer(), result()) :: t()
  def reply(link, id, {:ok, value}), do: send_or_log(link, {id, {:ok, value}})

  def reply(link, id, {:error, error}),
    do: send_or_log(link, {id, {:error, Error.to_wire(error)}})

  defp send_or_log(link, term) do
    case send_term(link, term) do
      {:ok, link} ->
        link

      {:error, error} ->
        Logger.error("tank: not sent: " <> Exception.message(error))
        link
    end
  end

  defp send_term(link, term) do
    with {:ok, frame, bytes} <- Wire.encode(term), do: write(link, frame, bytes)
  end

  # A program that does not read must not hold up the process that asks it:
  # what the pipe does not take waits here, up to a limit.
  defp write(%{outbox_bytes: 0} = link, frame, bytes) do
    if command(link.port, frame), do: {:ok, link}, else: keep(link, frame, bytes)
  end

  defp write(link, frame, bytes), do: keep(link, frame, bytes)

  defp keep(%{outbox_bytes: waiting}, _frame, bytes) when waiting + bytes > @outbox_bytes_max do
    {:error, busy("the port program does not read and #{waiting} bytes wait for it")}
  end

  defp keep(link, frame, bytes) do
    if link.outbox_bytes == 0, do: flush_later()
    outbox = :queue.in({frame, bytes}, link.outbox)
    {:ok, %{link | outbox: outbox, outbox_bytes: link.outbox_bytes + bytes}}
  end

  defp flush_later, do: Process.send_after(self(), {__MODULE__, :flush}, @flush_ms)

  defp flush(link) do
    case :queue.peek(link.outbox) do
      :empty ->
        link

      {:value, {frame, bytes}} ->
        if command(link.port, frame) do
          rest = :queue.drop(link.outbox)
          flush(%{link | outbox: rest, outbox_bytes: link.outbox_bytes - bytes})
        else
          flush_later()
          link
        end
    end
  end

  # False when the pipe is full. A port that is closed takes everything: what
  # it was told no longer matters, and its end is a message under way.
  defp command(port, frame) do
    Port.command(port, frame, [:nosuspend])
  rescue
    ArgumentError -> true
  end

  defp busy(message), do: %Error{code: :busy, message: message, hint: "try again later"}

  @doc "What a message means, when it is this link's."
  @spec handle(t(), term()) :: {event(), t()} | :unknown
  def handle(%{port: port} = link, {port, {:data, frame}}) do
    case Wire.decode(frame) do
      {:ok, term} -> handle_term(term, link)
      {:error, error} -> {{:down, error, waiting(link)}, link}
    end
  end

  def handle(%{port: port} = link, {port, {:exit_status, status}}), do: down(link, exited(status))
  def handle(%{port: port} = link, {:EXIT, port, reason}), do: down(link, broken(reason))
  def handle(link, {__MODULE__, :flush}), do: {:none, flush(link)}
  def handle(_link, _message), do: :unknown

  defp handle_term({0, {:error, error}}, link) do
    error = Error.from_wire(error)
    Logger.error("tank: the port program refused a frame: " <> Exception.message(error))
    {:none, %{link | last_error: error}}
  end

  defp handle_term({id, result}, link) when is_integer(id), do: handle_reply(id, result, link)
  defp handle_term({:notice, _seq, notice}, link), do: {{:notice, notice}, link}
  defp handle_term({0, op, args}, link), do: {{:cast, op, args}, link}
  defp handle_term({id, op, args}, link) when is_integer(id), do: {{:request, id, op, args}, link}

  defp handle_term({:chunk, id, more?, bytes}, link)
       when is_map_key(link.pending, id) and is_boolean(more?) and is_binary(bytes) do
    handle_chunk(Map.get(link.chunks, id, {0, []}), id, more?, bytes, link)
  end

  defp handle_term({:chunk, id, _more?, _bytes}, link) when is_integer(id), do: {:none, link}

  defp handle_term({:error, error}, link),
    do: {:none, %{link | last_error: Error.from_wire(error)}}

  defp handle_term(other, link), do: defect("the port program sent an unknown term", other, link)

  defp defect(what, term, link), do: {{:down, Error.internal(what, term), waiting(link)}, link}

  defp handle_chunk({size, _chunks}, id, _more?, bytes, link)
       when size + byte_size(bytes) > @reply_bytes_max do
    defect("the port program sent more than #{@reply_bytes_max} bytes in reply to", id, link)
  end

  defp handle_chunk({size, chunks}, id, true, bytes, link) do
    event = if chunks == [], do: {:reply_begun, Map.fetch!(link.pending, id)}, else: :none
    chunks = {size + byte_size(bytes), [bytes | chunks]}
    {event, %{link | chunks: Map.put(link.chunks, id, chunks)}}
  end

  defp handle_chunk({_size, chunks}, id, false, bytes, link) do
    link = %{link | chunks: Map.delete(link.chunks, id)}

    case [bytes | chunks] |> Enum.reverse() |> IO.iodata_to_binary() |> Wire.decode() do
      {:ok, {^id, result}} -> handle_reply(id, result, link)
      {:ok, other} -> defect("the port program sent no reply in chunks", other, link)
      {:error, error} -> {{:down, error, waiting(link)}, link}
    end
  end

  defp handle_reply(id, result, link) do
    case Map.pop(link.pending, id) do
      {nil, _pending} -> {:none, link}
      {tag, pending} -> {{:reply, tag, result(result)}, %{link | pending: pending}}
    end
  end

  defp result({:ok, value}), do: {:ok, value}
  defp result({:error, error}), do: {:error, Error.from_wire(error)}
  defp result(other), do: {:error, Error.internal("the port program sent no result", other)}

  defp down(link, error), do: {{:down, link.last_error || error, waiting(link)}, link}
  defp waiting(link), do: Map.values(link.pending)

  defp exited(status) when status > 128 do
    error = disconnected("the port program was ended by signal #{status - 128}")

    hint =
      "somebody killed it, or the kernel did for want of memory; pods do as :on_disconnect says"

    %{error | hint: hint}
  end

  defp exited(status), do: disconnected("the port program exited with status #{status}")
  defp broken(reason), do: disconnected("the port program is gone: #{inspect(reason)}")

  defp no_hello do
    disconnected("the port program did not say hello within #{@hello_ms_max} ms")
  end

  defp disconnected(message) do
    %Error{code: :disconnected, message: message, hint: "the port program says more on stderr"}
  end
end
