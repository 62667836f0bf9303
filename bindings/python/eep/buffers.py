# SPDX-License-Identifier: Apache-2.0
"""The arrays of one exchange, their shapes, and how they become eep_dispatch_args and
eep_combine_args."""
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from .arrays import Array, register
from .configuration import dtype_number
from .errors import Invalid
from .loading import ffi, lib
from .reports import sized

if TYPE_CHECKING:
    from .context import Context
    from .device import Device


@dataclass
class Buffers:
    """All arrays of a dispatch and a combine. T is num_max_tokens_per_rank, C `rows_capacity`.

    x            [T, hidden]              the tokens; num_tokens of them count
    topk_idx     [T, top_k] int32         logical experts; -1: no expert
    topk_weights [T, top_k] float32
    num_tokens   [1] int32
    rows         [C, hidden]              what arrives here, packed by local slot
    slot_begin   [num_slots + 1] int32    rows of slot s are slot_begin[s] .. slot_begin[s + 1]
    row_scales   [C, hidden / 128] float32, with fp8_dispatch
    results      [C, hidden]              expert outputs, packed as rows are
    out          [T, hidden]              the sum over k
    """

    x: Array
    topk_idx: Array
    topk_weights: Array
    num_tokens: Array
    rows: Array
    slot_begin: Array
    row_scales: Optional[Array]
    results: Array
    out: Array
    chain: int = 0

    @property
    def dispatch(self) -> Dict[str, Any]:
        """Keyword arguments of Context.dispatch."""
        return {"x": self.x, "topk_idx": self.topk_idx, "num_tokens": self.num_tokens,
                "rows": self.rows, "slot_begin": self.slot_begin, "row_scales": self.row_scales,
                "chain": self.chain}

    @property
    def combine(self) -> Dict[str, Any]:
        """Keyword arguments of Context.combine."""
        return {"rows": self.results, "topk_weights": self.topk_weights,
                "num_tokens": self.num_tokens, "out": self.out, "chain": self.chain}

    def fill(self, x: Any, topk_idx: Any, topk_weights: Any) -> None:
        """Store a batch: x [n, hidden], topk_idx and topk_weights [n, top_k], n at most T. For
        arrays that the CPU may access."""
        num = len(x)
        if num > self.x.shape[0]:
            raise Invalid(f"{num} tokens: num_max_tokens_per_rank is {self.x.shape[0]}")
        self.x[:num] = x
        self.topk_idx[:num] = topk_idx
        self.topk_weights[:num] = topk_weights
        self.num_tokens[0] = num


def make_buffers(context: "Context", out_dtype: Any, memory: str, chain: int) -> Buffers:
    """Inputs and outputs of a step in pinned memory, and what kernels alone touch in `memory`."""
    device, config = context.device, context.config
    tokens, hidden, top_k = config.num_max_tokens_per_rank, config.hidden, config.top_k
    capacity, dtype = context.rows_capacity, context.dtype
    fp8 = bool(config.fp8_dispatch)

    def pinned(shape: Sequence[int], kind: Any) -> Array:
        return device.zeros(shape, kind)

    return Buffers(
        x=pinned((tokens, hidden), dtype), topk_idx=pinned((tokens, top_k), "int32"),
        topk_weights=pinned((tokens, top_k), "float32"), num_tokens=pinned((1,), "int32"),
        rows=device.zeros((capacity, hidden), "float8_e4m3fn" if fp8 else dtype, memory),
        slot_begin=device.zeros((config.num_slots + 1,), "int32", memory),
        row_scales=device.zeros((capacity, -(-hidden // lib.EEP_FP8_GROUP)), "float32", memory)
        if fp8 else None,
        results=device.zeros((capacity, hidden), dtype, memory),
        out=pinned((tokens, hidden), out_dtype or dtype), chain=chain)


class Arguments:
    """A struct of libeep with pointers to arrays, each of which has enough elements."""

    def __init__(self, device: "Device", name: str) -> None:
        self.struct = sized(name)
        self.keep: List[Array] = []
        self._device = device
        self._name = name

    def put(self, field: str, source: Any, dtypes: Sequence[str], elements: int) -> Array:
        """`elements`: the least number that the kernels touch."""
        array = register(self._device, source)
        if array.dtype not in dtypes:
            raise Invalid(f"{self._name}.{field} is {array.dtype}: it must be {' or '.join(dtypes)}")
        have = array.nbytes // array._dtype.itemsize
        if have < elements:
            raise Invalid(f"{self._name}.{field} {list(array.shape)} has {have} elements, and "
                          f"{elements} are needed")
        setattr(self.struct, field, ffi.cast("void *", array.address))
        self.keep.append(array)
        return array


def _bits(dtype: str) -> Tuple[str, ...]:
    """numpy has no bfloat16 and no float8, so arrays of the bits are taken as well."""
    return {"bfloat16": ("bfloat16", "uint16"),
            "float8_e4m3fn": ("float8_e4m3fn", "uint8")}.get(dtype, (dtype,))


def dispatch_arguments(context: "Context", x: Any, topk_idx: Any, num_tokens: Any, rows: Any,
                       slot_begin: Any, row_scales: Any, chain: int) -> Arguments:
    config, made = context.config, Arguments(context.device, "eep_dispatch_args")
    tokens, hidden, capacity = config.num_max_tokens_per_rank, config.hidden, context.rows_capacity
    fp8 = bool(config.fp8_dispatch)
    made.struct.chain = chain
    made.put("x", x, _bits(context.dtype), tokens * hidden)
    made.put("topk_idx", topk_idx, ("int32",), tokens * config.top_k)
    made.put("num_tokens", num_tokens, ("int32",), 1)
    made.put("rows", rows, _bits("float8_e4m3fn" if fp8 else context.dtype), capacity * hidden)
    made.put("slot_begin", slot_begin, ("int32",), config.num_slots + 1)
    if row_scales is not None:
        made.put("row_scales", row_scales, ("float32",),
                 capacity * -(-hidden // lib.EEP_FP8_GROUP))
    return made


def combine_arguments(context: "Context", rows: Any, topk_weights: Any, num_tokens: Any, out: Any,
                      out_dtype: Any, chain: int) -> Arguments:
    config, made = context.config, Arguments(context.device, "eep_combine_args")
    tokens, hidden = config.num_max_tokens_per_rank, config.hidden
    made.struct.chain = chain
    made.put("rows", rows, _bits(context.dtype), context.rows_capacity * hidden)
    made.put("topk_weights", topk_weights, ("float32",), tokens * config.top_k)
    made.put("num_tokens", num_tokens, ("int32",), 1)
    array = made.put("out", out, ("float32", "bfloat16", "uint16"), tokens * hidden)
    kind = out_dtype or ("bfloat16" if array.dtype == "uint16" else array.dtype)
    made.struct.out_dtype = dtype_number("out_dtype", kind)
    return made
