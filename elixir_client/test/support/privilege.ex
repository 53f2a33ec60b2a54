defmodule Tank.Privilege do
  @moduledoc false

  @doc "Whether real containers can be run."
  def root?, do: File.stat!("/proc/self").uid == 0
end
