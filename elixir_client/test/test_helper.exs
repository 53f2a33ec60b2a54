# What the port program has to say of each test is of interest when one fails.
unless System.get_env("TANK_LOG"), do: System.put_env("TANK_LOG", "error")

# What a loaded machine needs, and no more when all is well.
ExUnit.configure(assert_receive_timeout: 10_000)

if Tank.Privilege.root?() do
  ExUnit.start()
else
  IO.puts("skipped: needs root: every test with real containers (mix test --only privileged)")
  ExUnit.start(exclude: [:privileged])
end
