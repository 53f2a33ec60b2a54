defmodule Tank.Pod.Network do
  @moduledoc """
  The interfaces and name servers of a pod with a network of its own.

    * `:nics` - a list of `Tank.Nic`, unique by name
    * `:dns` - a list of IPv4 addresses
  """

  alias Tank.{Nic, Spec}

  defstruct nics: [], dns: []

  @type t :: %__MODULE__{nics: [Nic.t()], dns: [String.t()]}

  @doc "Builds a network from a map or keyword, or says which rule it breaks."
  @spec new(map() | keyword()) :: {:ok, t()} | {:error, term()}
  def new(attrs), do: Spec.build(__MODULE__, attrs, nics: &nics/1, dns: &dns/1)

  @doc "Like `new/1`, but raises `ArgumentError`."
  @spec new!(map() | keyword()) :: t()
  def new!(attrs), do: attrs |> new() |> Spec.build!(__MODULE__)

  defp nics(value) do
    with {:ok, nics} <- Spec.list_of(value, Nic), do: Spec.unique(nics, & &1.name)
  end

  defp dns(value) do
    if Spec.proper_list?(value),
      do: addresses(value, value),
      else: {:error, {:invalid_dns, value}}
  end

  defp addresses([], all), do: {:ok, all}

  defp addresses([address | rest], all) do
    with {:ok, _address} <- Spec.ipv4(address), do: addresses(rest, all)
  end
end
