defmodule Mix.Tasks.Compile.Tank do
  @shortdoc "Builds the port program and the shim into priv"

  @moduledoc """
  Builds Tank's two programs with cargo and puts them into `priv`.

  Cargo decides what is stale, and a program is copied only when it changed. The target directory
  is cargo's own business: `CARGO_TARGET_DIR` and cargo's configuration work as ever.

  `TANK_BINARY=/path/to/tank` takes that program, and the `tank-shim` beside it, and builds
  nothing.
  """

  use Mix.Task.Compiler

  @programs ["tank", "tank-shim"]
  @cargo_args ~w(--locked --release --message-format json-render-diagnostics)

  # A shim is there for each pod: with libc inside, and at an address that is known when it is
  # linked, loading it writes to fewer pages. docs/benchmarks.md has what that comes to.
  @small ~w(-C target-feature=+crt-static -C relocation-model=static)

  @impl true
  def run(_args) do
    with {:ok, built} <- programs(System.get_env("TANK_BINARY")) do
      File.mkdir_p!(priv())

      changed =
        for {name, path} <- built, copy_if_changed(path, Path.join(priv(), name)), do: name

      # The build directory links to priv, which may be new.
      Mix.Project.build_structure()
      {if(changed == [], do: :noop, else: :ok), []}
    end
  end

  @impl true
  def clean do
    for name <- @programs, do: File.rm(Path.join(priv(), name))
    :ok
  end

  defp programs(given) when given in [nil, ""], do: build()

  defp programs(given) do
    given = Path.expand(given)
    built = [{"tank", given}, {"tank-shim", Path.join(Path.dirname(given), "tank-shim")}]

    case Enum.reject(built, fn {_name, path} -> File.regular?(path) end) do
      [] -> {:ok, built}
      [{_name, path} | _] -> failed("TANK_BINARY is #{given}, and there is no file #{path}")
    end
  end

  defp build do
    case System.find_executable("cargo") do
      nil -> failed(no_cargo())
      cargo -> build(cargo)
    end
  end

  defp build(cargo) do
    shim = ~w(rustc --package tank-shim --bin tank-shim) ++ @cargo_args ++ ["--" | small()]

    with {:ok, tank} <- build(cargo, ~w(build --package tank) ++ @cargo_args, "tank"),
         {:ok, shim} <- build(cargo, shim, "tank-shim"),
         do: {:ok, [tank, shim]}
  end

  defp build(cargo, args, program) do
    # Cargo's progress and its complaints go to the terminal; stdout is for us.
    case System.cmd(cargo, args, cd: root()) do
      {messages, 0} -> built(messages, program)
      {_messages, status} -> failed("cargo ended with status #{status}; see its messages above")
    end
  end

  # Not everywhere can libc be linked so, and the shim works as well without.
  defp small do
    with cc when cc != nil <- System.find_executable("cc"),
         {path, 0} <- System.cmd(cc, ["-print-file-name=libc.a"]),
         :absolute <- Path.type(path) do
      @small
    else
      _ -> []
    end
  end

  defp built(messages, program) do
    paths =
      for [_all, quoted] <- Regex.scan(~r/"executable":"((?:[^"\\]|\\.)+)"/, messages),
          path = String.replace(quoted, ~r/\\(.)/, "\\1"),
          Path.basename(path) == program,
          do: path

    case paths do
      [path | _] -> {:ok, {program, path}}
      [] -> failed("cargo built no #{program}")
    end
  end

  defp copy_if_changed(from, to) do
    if same?(from, to), do: false, else: copy(from, to)
  end

  defp same?(from, to) do
    case File.stat(to) do
      {:ok, %{size: size}} -> File.stat!(from).size == size and File.read!(from) == File.read!(to)
      {:error, _none} -> false
    end
  end

  # Another name first: a program that runs cannot be written to.
  defp copy(from, to) do
    File.cp!(from, to <> ".new")
    File.rename!(to <> ".new", to)
    true
  end

  defp failed(message) do
    Mix.shell().error("tank: " <> message)

    {:error,
     [
       %Mix.Task.Compiler.Diagnostic{
         compiler_name: "tank",
         file: Path.join(root(), "Cargo.toml"),
         message: message,
         position: 0,
         severity: :error
       }
     ]}
  end

  defp no_cargo do
    """
    cargo was not found, and Tank's port program is built with it.
    Install a Rust toolchain, or set TANK_BINARY to a program that is built already,
    with tank-shim beside it.\
    """
  end

  defp priv, do: Path.join(client(), "priv")
  defp root, do: Path.dirname(client())
  defp client, do: Path.expand("..", __DIR__)
end
