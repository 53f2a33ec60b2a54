defmodule Tank.Volume do
  @moduledoc """
  What a pod's containers may mount.

    * `:name` - unique in the pod; mounts refer to it
    * `:source` - where the data is:

  | `:source` | What it is | How long it lasts |
  |---|---|---|
  | `:managed` | a directory of the pod's own, `DATA_DIR/volumes/POD/VOLUME`; the default | until somebody removes it |
  | `{:host, path}` | an absolute path on the host, a directory or a file that is there, with all that is mounted below it | as the host has it |
  | `{:tmpfs, bytes}` | memory, so many bytes at most, that counts towards the memory limit; `:tmpfs` is 64 MiB | as long as the run |

  A managed volume is made when a container first mounts it, with what the image has at that path in
  it: files, owners and modes. Where the image has nothing it belongs to the container's user. It
  survives restarts, another spec and a reboot. `Tank.delete/1` leaves it where it is, and a pod of
  that name finds it again; to be rid of the data, remove the directory when there is no such pod. No
  other user of the host can look into it.

      iex> Tank.Volume.new(name: "data")
      {:ok, %Tank.Volume{name: "data", source: :managed}}

      iex> Tank.Volume.new(name: "scratch", source: :tmpfs)
      {:ok, %Tank.Volume{name: "scratch", source: {:tmpfs, 67_108_864}}}
  """

  alias Tank.Spec

  @enforce_keys [:name]
  defstruct name: nil, source: :managed

  @tmpfs_bytes_default 64 * 1024 * 1024

  @type source :: :managed | {:host, Path.t()} | {:tmpfs, bytes :: pos_integer()}
  @type t :: %__MODULE__{name: String.t(), source: source()}

  @doc "Builds a volume from a map or keyword, or says which rule it breaks."
  @spec new(map() | keyword()) :: {:ok, t()} | {:error, term()}
  def new(attrs), do: Spec.build(__MODULE__, attrs, name: &Spec.name/1, source: &source/1)

  @doc "Like `new/1`, but raises `ArgumentError`."
  @spec new!(map() | keyword()) :: t()
  def new!(attrs), do: attrs |> new() |> Spec.build!(__MODULE__)

  defp source(:managed), do: {:ok, :managed}

  defp source({:host, path} = source) do
    cond do
      not Spec.text?(path) -> {:error, {:invalid_source, source}}
      not Spec.absolute?(path) -> {:error, {:host_path_not_absolute, path}}
      true -> {:ok, source}
    end
  end

  defp source(:tmpfs), do: {:ok, {:tmpfs, @tmpfs_bytes_default}}

  defp source({:tmpfs, bytes} = source) do
    if Spec.positive?(bytes), do: {:ok, source}, else: {:error, {:invalid_source, source}}
  end

  defp source(value), do: {:error, {:invalid_source, value}}
end
