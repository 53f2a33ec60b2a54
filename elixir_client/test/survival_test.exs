defmodule Tank.SurvivalTest do
  # What `scripts/demo-survival` shows to a person is so.
  use ExUnit.Case, async: true

  @moduletag :privileged

  test "a container outlives its BEAM, and the next one finds the same process" do
    {shown, status} =
      System.cmd(Path.expand("../scripts/demo-survival"), [], stderr_to_stdout: true)

    assert status == 0, shown

    # Each look at the status shows the same process in the same run.
    looks = Regex.scan(~r/host_pid: (\d+), incarnation: 1,/, shown)
    assert [[look, _pid], [look, _same_pid]] = looks

    ages = for [_line, age] <- Regex.scan(~r/container: up for (\d+) s/, shown), do: age
    ages = Enum.map(ages, &String.to_integer/1)
    assert ages == Enum.sort(ages) and length(ages) == 6
    assert shown =~ "%{}"
  end
end
