defmodule Tank.InjectedTest do
  # Every acceptance test with a runtime of the test's own: no containers, no root.
  use ExUnit.Case, async: true
  use Tank.Acceptance, kind: :injected
end
