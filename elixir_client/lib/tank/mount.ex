defmodule Tank.Mount do
  @moduledoc """
  A pod's volume mounted into a container.

    * `:volume` - the name of a `Tank.Volume` of the same pod
    * `:path` - where it appears in the container: absolute, below `/`, and without `..`. What is
      missing of it is made. Links of the image are followed, but never out of its root file system
    * `:read_only` - whether writes are refused, also to what is mounted below; `false` by default

  Mounts are made from the outermost path to the innermost, so one may lie in another. A volume that
  is a file (`{:host, path}`) is mounted on a file. `/dev` itself, and `/proc` with all below it, are
  the container's own and refused as `:unsupported`. No volume has programs with set-user-id, or
  devices, that work; in a `:tmpfs` nothing can be executed.

      iex> Tank.Mount.new(volume: "data", path: "/var/lib/data")
      {:ok, %Tank.Mount{volume: "data", path: "/var/lib/data", read_only: false}}

      iex> Tank.Mount.new(volume: "data", path: "data")
      {:error, {:mount_path_not_absolute, "data"}}
  """

  alias Tank.Spec

  @enforce_keys [:volume, :path]
  defstruct volume: nil, path: nil, read_only: false

  @type t :: %__MODULE__{volume: String.t(), path: String.t(), read_only: boolean()}

  @doc "Builds a mount from a map or keyword, or says which rule it breaks."
  @spec new(map() | keyword()) :: {:ok, t()} | {:error, term()}
  def new(attrs) do
    Spec.build(__MODULE__, attrs,
      volume: &Spec.name/1,
      path: &path/1,
      read_only: &Spec.read_only/1
    )
  end

  @doc "Like `new/1`, but raises `ArgumentError`."
  @spec new!(map() | keyword()) :: t()
  def new!(attrs), do: attrs |> new() |> Spec.build!(__MODULE__)

  @doc false
  # Two paths that name one place have the same form here.
  @spec place(t()) :: String.t()
  def place(%__MODULE__{path: path}), do: "/" <> Enum.join(parts(path), "/")

  defp path(path) do
    cond do
      not Spec.text?(path) -> {:error, {:invalid_mount_path, path}}
      not Spec.absolute?(path) -> {:error, {:mount_path_not_absolute, path}}
      parts(path) == [] or ".." in parts(path) -> {:error, {:invalid_mount_path, path}}
      true -> {:ok, path}
    end
  end

  defp parts(path), do: path |> String.split("/") |> Enum.reject(&(&1 in ["", "."]))
end
