defmodule Tank.ContainersTest do
  # Every acceptance test with real containers.
  use ExUnit.Case, async: true

  # Before the tests, which only then have it.
  @moduletag :privileged

  use Tank.Acceptance, kind: :containers
end
