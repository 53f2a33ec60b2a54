defmodule Tank.ContainersTest do
  # Every acceptance test with real containers.
  use ExUnit.Case, async: true
  use Tank.Acceptance, kind: :containers

  @moduletag :privileged
end
