defmodule Tank.SpecsTest do
  # Every case of the table that the port program runs too, and what only Elixir has: keywords,
  # structs, `new!/1`.
  use ExUnit.Case, async: true

  alias Tank.{Container, Mount, Nic, Pod, Volume, Wire}
  alias Tank.Pod.Network

  doctest Tank.Pod
  doctest Tank.Container
  doctest Tank.Mount
  doctest Tank.Volume
  doctest Tank.Nic

  @table Path.expand("../../tests/cases/specs.terms", __DIR__)
  @external_resource @table
  {:ok, cases} = :file.consult(String.to_charlist(@table))

  describe "the shared table" do
    for {sentence, spec, expected} <- cases do
      @spec_given Macro.escape(spec)
      @expected Macro.escape(expected)
      test List.to_string(sentence) do
        check(Pod.new(unquote(@spec_given)), unquote(@expected))
      end
    end
  end

  defp check(result, :ok), do: assert({:ok, %Pod{}} = result)

  defp check(result, {:ok, normalised}) do
    assert {:ok, %Pod{} = pod} = result
    assert Wire.from_pod(pod) == normalised
  end

  defp check(result, {:error, _reason} = error), do: assert(result == error)

  describe "structs" do
    test "nested structs pass through unchanged when they keep the rules" do
      container = Container.new!(name: "c", image: "alpine", mounts: [[volume: "v", path: "/v"]])
      volume = Volume.new!(name: "v", source: {:host, "/srv"})
      network = Network.new!(nics: [[name: "eth0", ip: {"10.0.0.5", 24}]], dns: ["10.0.0.1"])

      assert {:ok, pod} =
               Pod.new(name: "p", containers: [container], volumes: [volume], network: network)

      assert pod.containers == [container]
      assert pod.volumes == [volume]
      assert pod.network == network
      assert Pod.new(pod) == {:ok, pod}
    end

    test "nested structs are checked again, not trusted" do
      container = %{Container.new!(name: "c", image: "alpine") | image: 5}
      assert Pod.new(name: "p", containers: [container]) == {:error, {:invalid_image, 5}}

      mount = %Mount{volume: "v", path: "/"}

      assert {:error, {:invalid_mount_path, "/"}} =
               Container.new(name: "c", image: "a", mounts: [mount])

      network = %Network{dns: [1]}
      pod = %{Pod.new!(name: "p", containers: [%{name: "c", image: "a"}]) | network: network}
      assert Pod.new(pod) == {:error, {:invalid_ipv4, 1}}
    end

    test "a struct of another kind is a map with the wrong keys" do
      volume = Volume.new!(name: "v")
      assert Pod.new(name: "p", containers: [volume]) == {:error, {:unknown_keys, [:source]}}
    end

    test "keywords are taken at every level" do
      assert {:ok, %Pod{network: %Network{nics: [%Nic{}]}}} =
               Pod.new(
                 name: "p",
                 containers: [[name: "c", image: "a", mounts: [[volume: "v", path: "/x"]]]],
                 volumes: [[name: "v"]],
                 network: [nics: [[name: "eth0", ip: :dhcp]]]
               )
    end
  end

  test "new! raises with the module and the rule" do
    assert_raise ArgumentError, ~r/invalid Tank.Pod: {:invalid_name, ""}/, fn ->
      Pod.new!(name: "")
    end

    for module <- [Container, Mount, Volume, Nic, Network] do
      assert_raise ArgumentError, ~r/invalid #{inspect(module)}: {:unknown_keys, \[:x\]}/, fn ->
        module.new!(x: 1)
      end
    end
  end
end
