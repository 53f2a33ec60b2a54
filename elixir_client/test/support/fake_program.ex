defmodule Tank.FakeProgram do
  @moduledoc false

  # A port program that says what a test tells it to and writes down what it
  # hears: the client's side of the protocol, frame by frame.

  defstruct [:binary, :says, :hears]

  @hello {:hello, %{protocol: 1, version: "0.0.0", pid: 1, host: %{}}}

  @doc "A program that has said hello and answered what a reconciler asks at its start."
  def ready! do
    fake = new!()
    say(fake, @hello)
    say(fake, {1, {:ok, %{seq: 0}}})
    say(fake, {2, {:ok, %{}}})
    fake
  end

  @doc "A program that has said nothing yet."
  def new! do
    dir = Tank.Scratch.dir!("fake")
    fake = %__MODULE__{binary: "#{dir}/tank", says: "#{dir}/says", hears: "#{dir}/hears"}
    File.write!(fake.says, "")

    script!(fake.binary, """
    exec 3<&0
    cat <&3 >#{fake.hears} &
    exec tail -c +1 -f #{fake.says} 3<&-
    """)

    fake
  end

  @doc "A program that says hello and never reads."
  def deaf! do
    fake = ready!()
    script!(fake.binary, "exec tail -c +1 -f #{fake.says}")
    fake
  end

  @doc "A program of its own making."
  def script!(path, script) do
    File.write!(path, "#!/bin/sh\nexec 2>/dev/null\n" <> script)
    File.chmod!(path, 0o755)
    path
  end

  @doc "Says a term."
  def say(fake, term), do: say_bytes(fake, :erlang.term_to_binary(term))

  @doc "Says a frame of these bytes."
  def say_bytes(fake, bytes) do
    File.write!(fake.says, <<byte_size(bytes)::32, bytes::binary>>, [:append])
  end

  @doc "All terms heard so far."
  def heard(fake) do
    case File.read(fake.hears) do
      {:ok, bytes} -> terms(bytes)
      {:error, :enoent} -> []
    end
  end

  defp terms(<<size::32, frame::binary-size(size), rest::binary>>) do
    [:erlang.binary_to_term(frame) | terms(rest)]
  end

  defp terms(_partial), do: []
end
