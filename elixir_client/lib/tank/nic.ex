defmodule Tank.Nic do
  @moduledoc """
  A network interface of a pod.

    * `:name` - unique in the pod
    * `:mode` - how it joins the host's network: `:macvlan` (default), `:bridge` or `:ipvlan`
    * `:parent` - the host's interface, or `:auto` (default) for the one that leads outside
    * `:ip` - `{address, prefix_length}`, `:dhcp`, or `{:ipam, subnet}` for one that Tank picks
    * `:gateway` - the default route, or `nil`

  Addresses are IPv4 dotted quads. Loopback is always there and is not listed.

      iex> Tank.Nic.new(name: "eth0", ip: {"10.0.0.5", 33})
      {:error, {:invalid_ip, {"10.0.0.5", 33}}}
  """

  alias Tank.Spec

  @enforce_keys [:name, :ip]
  defstruct name: nil, mode: :macvlan, parent: :auto, ip: nil, gateway: nil

  @type ip :: {String.t(), 0..32} | :dhcp | {:ipam, String.t()}
  @type t :: %__MODULE__{
          name: String.t(),
          mode: :macvlan | :bridge | :ipvlan,
          parent: :auto | String.t(),
          ip: ip(),
          gateway: String.t() | nil
        }

  @modes [:macvlan, :bridge, :ipvlan]

  @doc "Builds an interface from a map or keyword, or says which rule it breaks."
  @spec new(map() | keyword()) :: {:ok, t()} | {:error, term()}
  def new(attrs) do
    Spec.build(__MODULE__, attrs,
      name: &Spec.name/1,
      mode: &Spec.one_of(&1, @modes),
      parent: &parent/1,
      ip: &ip/1,
      gateway: &gateway/1
    )
  end

  @doc "Like `new/1`, but raises `ArgumentError`."
  @spec new!(map() | keyword()) :: t()
  def new!(attrs), do: attrs |> new() |> Spec.build!(__MODULE__)

  defp parent(:auto), do: {:ok, :auto}

  defp parent(value) do
    if Spec.text?(value) and value != "",
      do: {:ok, value},
      else: {:error, {:invalid_parent, value}}
  end

  defp ip(:dhcp), do: {:ok, :dhcp}

  defp ip({:ipam, subnet} = ip) when is_binary(subnet) do
    if Spec.cidr?(subnet), do: {:ok, ip}, else: {:error, {:invalid_ipam_subnet, subnet}}
  end

  defp ip({address, prefix} = ip) when address != :ipam and prefix in 0..32 do
    with {:ok, _address} <- Spec.ipv4(address), do: {:ok, ip}
  end

  defp ip(value), do: {:error, {:invalid_ip, value}}

  defp gateway(nil), do: {:ok, nil}
  defp gateway(value), do: Spec.ipv4(value)
end
