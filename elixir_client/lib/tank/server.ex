defmodule Tank.Server do
  @moduledoc false

  # How a caller reaches whoever can answer: a reconciler, or a `Tank.Store`
  # that either answers itself or names its reconciler.

  alias Tank.Error

  @type t :: GenServer.server() | nil

  @doc "Asks; `nil` is the default reconciler, else the store."
  @spec request(t(), atom(), term(), timeout()) :: {:ok, term()} | {:error, Error.t()}
  def request(server, op, args, timeout) do
    case server || default() do
      nil -> {:error, not_running(Tank.Reconciler)}
      server -> call(server, {:tank, op, args}, timeout)
    end
  end

  @doc "Asks, and raises the error."
  @spec request!(t(), atom(), term(), timeout()) :: term()
  def request!(server, op, args, timeout) do
    case request(server, op, args, timeout) do
      {:ok, value} -> value
      {:error, error} -> raise error
    end
  end

  @doc "The server that calls without one go to."
  @spec default() :: module() | nil
  def default do
    Enum.find([Tank.Reconciler, Tank.Store], &Process.whereis/1)
  end

  defp call(server, message, timeout) do
    case GenServer.call(server, message, timeout) do
      {:route, reconciler} -> call(reconciler, message, timeout)
      result -> result
    end
  catch
    :exit, {:timeout, call} -> exit({:timeout, call})
    :exit, {:noproc, _call} -> {:error, not_running(server)}
    :exit, {reason, {GenServer, :call, _args}} -> {:error, ended(server, reason)}
  end

  defp not_running(server) do
    %Error{
      code: :not_running,
      message: "#{inspect(server)} is not running",
      hint: "put {Tank.Reconciler, opts} into your supervision tree"
    }
  end

  defp ended(_server, %Error{} = error), do: error

  defp ended(server, reason) do
    %Error{
      code: :disconnected,
      message: "#{inspect(server)} ended during the call: #{inspect(reason)}",
      hint: "its supervisor starts it again; whether the call had an effect is not known"
    }
  end
end
