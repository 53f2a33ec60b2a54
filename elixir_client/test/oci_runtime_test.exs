defmodule Tank.OciRuntimeTest do
  # Every acceptance test with containers that crun launches.
  use ExUnit.Case, async: true

  # Before the tests, which only then have it.
  @moduletag :privileged

  use Tank.Acceptance, kind: :containers, pod: %{oci_runtime: "crun"}
end
