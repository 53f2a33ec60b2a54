defmodule Tank.Volume do
  @moduledoc """
  Storage of a pod that outlives its runs.

    * `:name` - unique in the pod; mounts refer to it
    * `:source` - `:managed` (a directory that Tank owns, the default) or `{:host, path}`, an
      absolute path on the host

      iex> Tank.Volume.new(name: "data")
      {:ok, %Tank.Volume{name: "data", source: :managed}}
  """

  alias Tank.Spec

  @enforce_keys [:name]
  defstruct name: nil, source: :managed

  @type source :: :managed | {:host, Path.t()}
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

  defp source(value), do: {:error, {:invalid_source, value}}
end
