defmodule Tank.Spec do
  @moduledoc false

  # How every spec struct is built from a map or keyword: unknown keys are
  # refused, then each field is checked in the order given, and the first error
  # wins. The rules that several structs share are here too. Each rule takes a
  # value and returns `{:ok, value}` or `{:error, reason}`.
  #
  # The port program has the same rules, and both sides run the same table of
  # cases (`tests/cases/specs.terms`), so a change here begins there.

  @typep rule :: (term() -> {:ok, term()} | {:error, term()})

  @name_bytes_max 63
  @integer_max 9_223_372_036_854_775_807

  @doc "Builds `module`'s struct from `attrs` with one rule for each field."
  @spec build(module(), term(), [{atom(), rule()}]) :: {:ok, struct()} | {:error, term()}
  def build(module, attrs, rules) do
    with {:ok, given} <- to_map(module, attrs),
         :ok <- refuse_unknown_keys(given, Keyword.keys(rules)) do
      check_fields(struct(module), given, rules)
    end
  end

  @doc "The struct, or an `ArgumentError` that names the rule."
  @spec build!({:ok, struct()} | {:error, term()}, module()) :: struct()
  def build!({:ok, struct}, _module), do: struct

  def build!({:error, reason}, module) do
    raise ArgumentError, "invalid #{inspect(module)}: #{inspect(reason)}"
  end

  defp to_map(_module, attrs) when is_map(attrs), do: {:ok, Map.delete(attrs, :__struct__)}

  defp to_map(module, attrs) do
    if Keyword.keyword?(attrs),
      do: {:ok, Map.new(attrs)},
      else: {:error, {:cannot_build, module, attrs}}
  end

  defp refuse_unknown_keys(given, known) do
    case Map.keys(Map.drop(given, known)) do
      [] -> :ok
      unknown -> {:error, {:unknown_keys, Enum.sort(unknown)}}
    end
  end

  defp check_fields(struct, _given, []), do: {:ok, struct}

  defp check_fields(struct, given, [{field, rule} | rules]) do
    with {:ok, value} <- rule.(Map.get(given, field, Map.fetch!(struct, field))) do
      check_fields(Map.put(struct, field, value), given, rules)
    end
  end

  @doc "1 to 63 bytes of `a-z A-Z 0-9 . _ -`, first and last alphanumeric."
  @spec name(term()) :: {:ok, String.t()} | {:error, term()}
  def name(value) when is_binary(value) and byte_size(value) in 1..@name_bytes_max do
    if value =~ ~r/\A[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?\z/,
      do: {:ok, value},
      else: {:error, {:invalid_name, value}}
  end

  def name(value), do: {:error, {:invalid_name, value}}

  @doc "Text the kernel can take: UTF-8 without NUL."
  @spec text?(term()) :: boolean()
  def text?(value) do
    is_binary(value) and String.valid?(value) and :binary.match(value, <<0>>) == :nomatch
  end

  @doc "Whether the text is an absolute path."
  @spec absolute?(String.t()) :: boolean()
  def absolute?(text), do: String.starts_with?(text, "/")

  @doc "A list of texts."
  @spec texts(term()) :: {:ok, [String.t()]} | {:error, term()}
  def texts(value) do
    if proper_list?(value) and Enum.all?(value, &text?/1),
      do: {:ok, value},
      else: {:error, {:not_a_string_list, value}}
  end

  @doc "One of a closed set."
  @spec one_of(term(), [term()]) :: {:ok, term()} | {:error, term()}
  def one_of(value, allowed) do
    if value in allowed, do: {:ok, value}, else: {:error, {:not_allowed, value, allowed}}
  end

  @doc "Whether writes are refused."
  @spec read_only(term()) :: {:ok, boolean()} | {:error, term()}
  def read_only(value) when is_boolean(value), do: {:ok, value}
  def read_only(value), do: {:error, {:invalid_read_only, value}}

  @doc "A list with a rule applied to each item."
  @spec each(term(), rule()) :: {:ok, [term()]} | {:error, term()}
  def each(value, rule) do
    if proper_list?(value),
      do: apply_to_each(value, rule, []),
      else: {:error, {:not_a_list, value}}
  end

  defp apply_to_each([], _rule, done), do: {:ok, Enum.reverse(done)}

  defp apply_to_each([item | items], rule, done) do
    with {:ok, value} <- rule.(item), do: apply_to_each(items, rule, [value | done])
  end

  @doc "A list of `module`'s structs, each built anew; none is trusted."
  @spec list_of(term(), module()) :: {:ok, [struct()]} | {:error, term()}
  def list_of(value, module), do: each(value, &module.new/1)

  @doc "The list, when no two of its items have the same key."
  @spec unique([item], (item -> term())) :: {:ok, [item]} | {:error, term()} when item: term()
  def unique(items, key) do
    keys = Enum.map(items, key)

    case Enum.uniq(keys -- Enum.uniq(keys)) do
      [] -> {:ok, items}
      repeated -> {:error, {:duplicate, repeated}}
    end
  end

  @doc "A dotted quad: four decimal numbers up to 255 without leading zeros."
  @spec ipv4(term()) :: {:ok, String.t()} | {:error, term()}
  def ipv4(value) do
    if ipv4?(value), do: {:ok, value}, else: {:error, {:invalid_ipv4, value}}
  end

  defp ipv4?(value) when is_binary(value) do
    parts = :binary.split(value, ".", [:global])
    length(parts) == 4 and Enum.all?(parts, &decimal?(&1, 255))
  end

  defp ipv4?(_value), do: false

  @doc "An IPv4 subnet in CIDR form."
  @spec cidr?(term()) :: boolean()
  def cidr?(value) do
    case is_binary(value) and :binary.split(value, "/") do
      [address, prefix] -> ipv4?(address) and decimal?(prefix, 32)
      _ -> false
    end
  end

  defp decimal?(digits, max) do
    digits =~ ~r/\A(0|[1-9][0-9]{0,2})\z/ and String.to_integer(digits) <= max
  end

  @doc "A positive integer that fits the kernel's signed 64 bits."
  @spec positive?(term()) :: boolean()
  def positive?(value), do: is_integer(value) and value in 1..@integer_max

  @doc "Whether the value is a list with a proper end."
  @spec proper_list?(term()) :: boolean()
  def proper_list?(value), do: is_list(value) and List.improper?(value) == false
end
