defmodule Tank.Rootfs do
  @moduledoc false

  @doc "A root file system with busybox in it."
  def build!(dir) do
    for sub <- ~w(bin dev etc proc sys tmp), do: File.mkdir_p!(Path.join(dir, sub))
    File.cp!("/bin/busybox", Path.join(dir, "bin/busybox"))
    File.ln_s!("busybox", Path.join(dir, "bin/sh"))
    File.write!(Path.join(dir, "bin/data"), "not a program")
    dir
  end
end
