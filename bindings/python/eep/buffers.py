# SPDX-License-Identifier: Apache-2.0
"""The arrays of one exchange, their shapes, and how they become eep_dispatch_args and
eep_combine_args."""
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from .arrays import Array, register
from .configuration import choose, dtype_number
from .errors import Invalid, check
from .loading import ffi, lib
from .reports import plain, sized

if TYPE_CHECKING:
    from .context import Context
    from .device import Device


LAYOUTS = {"packed": "EEP_ROWS_PACKED", "padded": "EEP_ROWS_PADDED"}
SCALES = {"rows": "EEP_SCALES_ROWS", "columns": "EEP_SCALES_COLUMNS",
          "ue8m0_rows": "EEP_SCALES_UE8M0_ROWS", "ue8m0_columns": "EEP_SCALES_UE8M0_COLUMNS"}
IDS = {"logical": "EEP_IDS_LOGICAL", "physical": "EEP_IDS_PHYSICAL"}


@dataclass(frozen=True)
class Form:
    """How a dispatch takes ids and gives rows and scales (eep/forms.h draws them).

    layout      "packed": slot after slot; "padded": [num_slots, slot_rows, hidden]
    slot_align  slots begin at multiples of so many rows; 0: at any
    scales      with fp8_dispatch: "rows", "columns", "ue8m0_rows", "ue8m0_columns"
    ids         "logical": experts; "physical": seat * num_slots + slot, under a placement
    """

    layout: str = "packed"
    slot_align: int = 0
    scales: str = "rows"
    ids: str = "logical"

    def put(self, struct: Any) -> None:
        struct.layout = choose("layout", self.layout, LAYOUTS)
        struct.slot_align = self.slot_align
        struct.scale_form = choose("scales", self.scales, SCALES)
        struct.ids = choose("ids", self.ids, IDS)


@dataclass(frozen=True)
class FormSizes:
    """eep_form_sizes."""

    rows: int
    slot_rows: int
    rows_bytes: int
    scale_stride: int
    scales_bytes: int


def form_sizes(context: "Context", form: Form) -> FormSizes:
    args, sizes = sized("eep_dispatch_args"), sized("eep_form_sizes")
    form.put(args)
    check(lib.py_form_sizes_get(context._handle, args, sizes), "eep_form_sizes_get")
    return plain(FormSizes, sizes)


@dataclass
class Buffers:
    """All arrays of a dispatch and a combine. T is num_max_tokens_per_rank, C `rows_capacity`, R the
    rows of the form: C for packed rows without alignment, else more.

    x              [T, hidden]            the tokens; num_tokens of them count
    topk_idx       [T, top_k] int32 or int64; -1: no expert
    topk_weights   [T, top_k] float32
    num_tokens     [1] int32
    rows           [R, hidden], or [num_slots, slot_rows, hidden]: what arrives here
    slot_begin     [num_slots + 1] int32  packed rows of slot s are slot_begin[s] .. slot_begin[s + 1]
    slot_counts    [num_slots] int32      rows of each slot
    row_scales     float32, with fp8_dispatch: [R, hidden / 128], or as the form says
    packed_scales  int32, in place of row_scales for ue8m0 forms
    placement      [1] uint64             for physical ids: LivePlacement.word
    results        as rows                expert outputs, laid out as rows are
    out            [T, hidden]            the sum over k
    """

    x: Array
    topk_idx: Array
    topk_weights: Array
    num_tokens: Array
    rows: Array
    slot_begin: Array
    slot_counts: Array
    row_scales: Optional[Array]
    packed_scales: Optional[Array]
    placement: Optional[Array]
    results: Array
    out: Array
    chain: int = 0
    form: Form = Form()

    @property
    def dispatch(self) -> Dict[str, Any]:
        """Keyword arguments of Context.dispatch."""
        names = ("x", "topk_idx", "num_tokens", "rows", "slot_begin", "slot_counts", "row_scales",
                 "packed_scales", "placement", "chain", "form")
        return {name: getattr(self, name) for name in names}

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


def make_buffers(context: "Context", out_dtype: Any, memory: str, chain: int, form: Form,
                 ids_dtype: Any) -> Buffers:
    """Inputs and outputs of a step in pinned memory, and what kernels alone touch in `memory`."""
    device, config = context.device, context.config
    tokens, hidden, slots = config.num_max_tokens_per_rank, config.hidden, config.num_slots
    sizes, dtype = form_sizes(context, form), context.dtype
    shape = (slots, sizes.slot_rows, hidden) if form.layout == "padded" else (sizes.rows, hidden)
    scales = sizes.scales_bytes // 4

    def pinned(shape: Sequence[int], kind: Any) -> Array:
        return device.zeros(shape, kind)

    def of_kernels(shape: Sequence[int], kind: Any) -> Array:
        return device.zeros(shape, kind, memory)

    return Buffers(
        x=pinned((tokens, hidden), dtype), topk_idx=pinned((tokens, config.top_k), ids_dtype),
        topk_weights=pinned((tokens, config.top_k), "float32"), num_tokens=pinned((1,), "int32"),
        rows=of_kernels(shape, "float8_e4m3fn" if config.fp8_dispatch else dtype),
        slot_begin=of_kernels((slots + 1,), "int32"), slot_counts=of_kernels((slots,), "int32"),
        row_scales=of_kernels(_scales_shape(form, sizes, slots), "float32")
        if scales and not form.scales.startswith("ue8m0") else None,
        packed_scales=of_kernels(_scales_shape(form, sizes, slots), "int32")
        if scales and form.scales.startswith("ue8m0") else None,
        placement=pinned((1,), "uint64") if form.ids == "physical" else None,
        results=of_kernels(shape, dtype), out=pinned((tokens, hidden), out_dtype or dtype),
        chain=chain, form=form)


def _scales_shape(form: Form, sizes: FormSizes, slots: int) -> Tuple[int, ...]:
    """[rows, groups], or transposed; padded rows by columns with a dimension for slots before."""
    elements = sizes.scales_bytes // 4
    if form.layout == "padded" and form.scales.endswith("columns"):
        return (slots, elements // slots // sizes.scale_stride, sizes.scale_stride)
    if form.scales.endswith("columns"):
        return (elements // sizes.scale_stride, sizes.scale_stride)
    return (elements // sizes.scale_stride, sizes.scale_stride)


class Arguments:
    """A struct of libeep with pointers to arrays, each of which has enough elements."""

    def __init__(self, device: "Device", name: str) -> None:
        self.struct = sized(name)
        self.keep: List[Array] = []
        self.num_rows = 0
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


def dispatch_arguments(context: "Context", form: Form, chain: int, *, x: Any, topk_idx: Any,
                       num_tokens: Any, rows: Any, **others: Any) -> Arguments:
    config, made = context.config, Arguments(context.device, "eep_dispatch_args")
    tokens, slots, sizes = config.num_max_tokens_per_rank, config.num_slots, form_sizes(context, form)
    made.struct.chain, made.num_rows = chain, sizes.rows
    form.put(made.struct)
    made.put("x", x, _bits(context.dtype), tokens * config.hidden)
    ids = register(context.device, topk_idx)
    field = "topk_idx_int64" if ids.dtype == "int64" else "topk_idx"
    made.put(field, ids, ("int32", "int64"), tokens * config.top_k)
    made.put("num_tokens", num_tokens, ("int32",), 1)
    made.put("rows", rows, _bits("float8_e4m3fn" if config.fp8_dispatch else context.dtype),
             sizes.rows * config.hidden)
    seats = max(config.max_ranks, config.num_ranks)
    further = {"slot_begin": (("int32",), slots + 1), "slot_counts": (("int32",), slots),
               "row_scales": (("float32",), sizes.scales_bytes // 4),
               "packed_scales": (("int32",), sizes.scales_bytes // 4),
               "placement": (("uint64",), 1), "source_tokens": (("int32",), sizes.rows),
               "layout_range": (("int64",), slots * seats)}
    for name, array in others.items():
        if name not in further:
            raise Invalid(f"eep_dispatch_args has no field '{name}'")
        if array is not None:
            made.put(name, array, *further[name])
    return made


def combine_arguments(context: "Context", num_rows: int, rows: Any, topk_weights: Any,
                      num_tokens: Any, out: Any, out_dtype: Any, chain: int) -> Arguments:
    """`num_rows`: of the form that the layer's dispatch has."""
    config, made = context.config, Arguments(context.device, "eep_combine_args")
    tokens, hidden = config.num_max_tokens_per_rank, config.hidden
    made.struct.chain = chain
    made.put("rows", rows, _bits(context.dtype), num_rows * hidden)
    made.put("topk_weights", topk_weights, ("float32",), tokens * config.top_k)
    made.put("num_tokens", num_tokens, ("int32",), 1)
    array = made.put("out", out, ("float32", "bfloat16", "uint16"), tokens * hidden)
    kind = out_dtype or ("bfloat16" if array.dtype == "uint16" else array.dtype)
    made.struct.out_dtype = dtype_number("out_dtype", kind)
    return made
