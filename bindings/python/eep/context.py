# SPDX-License-Identifier: Apache-2.0
"""A rank (eep/eep.h): its step graphs, its steps, its log lines and events."""
import time
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Type, Union

from .buffers import (Arguments, Buffers, Form, FormSizes, combine_arguments, dispatch_arguments,
                      form_sizes, make_buffers)
from .collective import Collectives
from .configuration import Config
from .control import Control
from .device import Device, Graph, Stream, begin_capture, end_capture, wait_in_slices
from .errors import (TIMEOUT, BadStepInput, Drained, EepError, Invalid, KernelFailed, NotFound, State,
                     check, error_of)
from .kernels import fail_if_any
from .loading import ffi, lib, text_of
from .objects import leaked, microseconds
from .observation import Observation
from .reports import BadInput, EventRecord, LogLine, ShapeInfo, StepWords, enum_name, sized, take_records
from .store import ERROR_BYTES, Store
from .weights import Weights

_JOIN_SLICE_US = 100000
_LOG, _EVENT = ffi.addressof(lib, "eepy_log"), ffi.addressof(lib, "eepy_event")
LogHandler = Union[bool, Callable[[LogLine], None]]
EventHandler = Union[bool, Callable[[EventRecord], None]]


class Step:
    """One step: `with context.step() as step:` begins it, and the end of the block ends it. In the
    block fill the inputs and replay a graph of the step's shape."""

    __slots__ = ("number", "epoch", "num_active", "shape", "_context", "_timeout_us")

    def __init__(self, context: "Context", timeout_us: int, shape: int = 0) -> None:
        self.number = 0      # the rendezvous number; never used again
        self.epoch = 0       # of the view that it runs under
        self.num_active = 0  # ranks in that view
        self.shape = shape   # wanted before the begin; then that of the step
        self._context = context
        self._timeout_us = timeout_us

    def __enter__(self) -> "Step":
        context = self._context
        if context._entered:
            raise State("eep_step_begin: a step of this context is open")
        struct = context._step
        shape = context._shape
        shape[0] = self.shape
        status = lib.eepy_step_begin(context._handle, min(self._timeout_us, 100000), struct, shape)
        if status != 0:
            self._begin_later(status)
        context._entered = True
        self.shape = shape[0]
        self.number, self.epoch, self.num_active = struct.step, struct.epoch, struct.num_active
        return self

    def _begin_later(self, status: int) -> None:
        """In further slices of the time, so that Ctrl-C is heard."""
        context = self._context
        end = time.monotonic() + self._timeout_us / 1e6 - 0.1
        while status == TIMEOUT and time.monotonic() < end:
            left_us = int((end - time.monotonic()) * 1e6)
            status = lib.eepy_step_begin(context._handle, min(max(left_us, 0), 100000),
                                         context._step, context._shape)
        if status != 0:
            raise error_of(status, "eep_step_begin")

    def __exit__(self, kind: Optional[Type[BaseException]], value: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        context = self._context
        context._entered = False
        if kind is not None:
            lib.eepy_step_drop(context._handle)
            context._after_step()
            return
        status = lib.eepy_step_end(context._handle)
        stream = context._stream
        if status != 0 or (stream is not None and (stream._eager or stream._server is not None)):
            context._end_with_care(status)


class Context(Control, Collectives, Observation, Weights):
    """One rank of an instance. Opening takes the seat, with a new generation.

    A rank's life: open; fill `slot_alloc` of what `slot_expert` asks for; `capture()` a step;
    `join()`; `step()` again and again; `close()`. One thread at a time uses it, except for what
    says "any thread".

    The keyword arguments are the fields of eep_config (include/eep/eep.h tells all; times are in
    microseconds). None is libeep's default; rank, num_ranks and store are what the launcher says
    (`eep.launch()`). In short:

    store        a Store, or its path
    device       a Device, or a backend's name; None: "host"
    rank, num_ranks, max_ranks    this seat ("any": a free one), ranks of the first view, seats
    num_layers, num_experts, num_slots, top_k, hidden, num_max_tokens_per_rank    the shape;
                 num_slots None: two replicas of each expert over all seats
    dtype        of x and expert outputs: "float32" or "bfloat16"
    fp8_dispatch 1: rows travel as float8 with scales; 2: with scales that are powers of two
    profile      "default", "bring_up" (a debugger may stop a rank), "quick" (faults within 1 s)
    log          None: libeep writes lines to stderr; True: `poll()` returns them; a function:
                 `poll()` calls it with each LogLine
    event        None: no events; True or a function: as `log`, with EventRecord
    log_level    "none", "error", "warn", "info", "debug"
    bulk         "auto", "shm" or "ucx"
    shapes       (max_tokens, num_chunks) of shapes 1, 2 and so on: eep/shapes.h
    """

    _closer = "py_close"

    def __init__(  # pylint: disable=too-many-arguments,too-many-locals
            self, store: Union[Store, str, None] = None, *, device: Union[Device, str, None] = None,
            num_experts: int, top_k: int, hidden: int, num_max_tokens_per_rank: int = 128,
            num_layers: int = 1, num_slots: Optional[int] = None, rank: Union[int, str, None] = None,
            num_ranks: Optional[int] = None, max_ranks: Optional[int] = None,
            dtype: Any = "float32", fp8_dispatch: int = 0, profile: str = "default",
            heartbeat_period_us: Optional[int] = None, heartbeat_suspect_us: Optional[int] = None,
            step_deadline_us: Optional[int] = None, warmup_deadline_us: Optional[int] = None,
            expel_floor_us: Optional[int] = None, drain_bound_us: Optional[int] = None,
            propose_delay_us: Optional[int] = None, join_timeout_us: Optional[int] = None,
            background_bytes_per_s: Optional[int] = None, num_blocks: Optional[int] = None,
            kill_fence: Optional[bool] = None, bind_threads: Optional[bool] = None,
            log: Optional[LogHandler] = None, log_level: Optional[str] = None,
            event: Optional[EventHandler] = None, bulk: Optional[str] = None,
            bulk_interface: Optional[str] = None, ranks_per_node: Optional[int] = None,
            spread_distance: Optional[int] = None, backup_copies: Optional[int] = None,
            background_latency_percent: Optional[int] = None, loads_period_us: Optional[int] = None,
            num_chains: Optional[int] = None, seats_per_group: Optional[int] = None,
            shapes: Optional[Sequence[Tuple[int, int]]] = None, **further: Any) -> None:
        super().__init__()
        given = dict(locals())
        names = {name for name, _ in ffi.typeof("eep_config").fields}
        values = {name: value for name, value in given.items()
                  if name in names and name not in ("device", "log", "event")}
        for name, value in further.items():
            if name not in names or name in ("struct_bytes", "num_shapes", "reserved_shapes", "user",
                                             "store_path"):
                raise Invalid(f"Context: eep_config has no field '{name}'")
            values[name] = value
        values["store_path"] = store.path if isinstance(store, Store) else store
        self.device = device if isinstance(device, Device) else Device(device or "host")
        self._queue: Any = ffi.new("eepy_queue **")  # of log lines and events
        self._handlers = (log, event)
        self._stream: Optional[Stream] = None
        self._streams: List[Stream] = []
        self._kept: Dict[Any, Any] = {"store": store}  # what libeep borrows until the close
        self._rows: Dict[Any, int] = {}  # (layer, chain): of the form of the last dispatch
        self._entered = False
        self._step = sized("eep_step")
        self._shape = ffi.new("int32_t *")
        self._config = Config(profile, values)
        self.config = self._config.struct
        self._config.struct.device = self.device._handle.it
        self._join_us = int(self.config.join_timeout_us)
        self.config.join_timeout_us = min(self._join_us, _JOIN_SLICE_US)
        if log or event:
            self._open_queue(bool(log), bool(event))
        self._open()

    def _open_queue(self, log: bool, event: bool) -> None:
        self._queue[0] = lib.eepy_queue_open()
        if self._queue[0] == ffi.NULL:
            raise OSError("Context: no memory or no descriptor for log lines and events")
        self.config.user = self._queue[0]
        if log:
            self.config.log = _LOG
        if event:
            self.config.event = _EVENT

    def _open(self) -> None:
        error = ffi.new("char[]", ERROR_BYTES)
        status = lib.py_open(self.config, error, ERROR_BYTES, self._handle)
        if status != 0:
            lib.eepy_queue_close(self._queue)
            raise error_of(status, "eep_open", text_of(error))
        self._opened()

    def close(self) -> None:
        """Leave without ceremony: peers see the end of this generation and go on. Any thread: a
        call that waits in another one ends with `State`. Slots and arrays stay valid."""
        try:
            super().close()
        finally:
            if self.closed:
                self._give_back()

    def _give_back(self) -> None:
        """What the context had of its own, once it is closed. Again: nothing."""
        if self._stream is not None and self._kept and not self._stream.closed and \
                lib.py_stream_synchronize(self._stream._handle, 0) == TIMEOUT:
            leaked.append(self._kept)  # a kernel of the engine that did not end may still write
        self._kept = {}
        lib.eepy_queue_close(self._queue)
        while self._streams:
            self._streams[-1].close()
            self._streams.pop()

    def __del__(self) -> None:
        super().__del__()
        if hasattr(self, "_streams") and self.closed:
            self._give_back()

    # ------------------------------------------------------------ who it is

    @property
    def rank(self) -> int:
        """The seat."""
        return int(lib.py_rank(self._handle))

    @property
    def generation(self) -> int:
        """The first process in a seat has 1, the next one 2."""
        return int(lib.py_generation(self._handle))

    @property
    def dtype(self) -> str:
        return "bfloat16" if self.config.dtype == lib.EEP_BF16 else "float32"

    @property
    def num_slots(self) -> int:
        return int(self.config.num_slots)

    @property
    def rows_capacity(self) -> int:
        """Most rows that a dispatch can deliver to this rank."""
        return int(lib.py_rows_capacity(self._handle))

    @property
    def stream(self) -> Stream:
        """The stream of the steps: that of the last capture, else one that is opened now."""
        if self._stream is None:
            self._stream = self.device.stream()
            self._streams.append(self._stream)
        return self._stream

    # ------------------------------------------------------------ the step, at capture time

    def buffers(self, out_dtype: Any = None, memory: str = "pinned", chain: int = 0,
                form: Optional[Form] = None, ids_dtype: Any = "int32") -> Buffers:
        """All arrays of an exchange in a `form` (None: packed rows, logical ids). `memory`: of rows,
        slot_begin, scales and results, which kernels alone touch on a GPU; inputs and out are
        pinned. `ids_dtype`: "int32" or "int64"."""
        return make_buffers(self, out_dtype, memory, chain, form or Form(), ids_dtype)

    def form_sizes(self, form: Form) -> FormSizes:
        """How many rows and bytes the arrays of a form have."""
        return form_sizes(self, form)

    @property
    def num_shapes(self) -> int:
        """Shapes that steps may have; shape 0 is num_max_tokens_per_rank tokens at once."""
        return int(lib.py_num_shapes(self._handle))

    def shape(self, shape: int) -> ShapeInfo:
        """The size of steps of that shape."""
        info = sized("eep_shape_info")
        check(lib.py_shape_get(self._handle, shape, info), "eep_shape_get")
        return ShapeInfo(info.max_tokens, info.num_chunks, info.chunk_tokens, info.rows_capacity)

    @contextmanager
    def capture(self, stream: Optional[Stream] = None, shape: int = 0) -> Iterator[Graph]:
        """Capture a step of that shape: latch, then what the block puts (per layer a dispatch, the experts, a
        combine), then finish. The graph is there behind the block. An exception in the block ends
        the capture without a graph."""
        where = stream or self.stream
        graph = Graph(where)
        begin_capture(where)
        try:
            self.latch(where, shape)
            yield graph
            self.finish(where)
        except BaseException:
            end_capture(where, None)
            raise
        end_capture(where, graph)

    def latch(self, stream: Optional[Stream] = None, shape: int = 0) -> None:
        """The first node of a step of that shape. Steps run in this stream from now on."""
        where = stream or self.stream
        check(lib.py_step_latch_shape(self._handle, shape, where._handle)
                    if shape else lib.py_step_latch(self._handle, where._handle), "eep_step_latch")
        self._runs_in(where)

    def finish(self, stream: Optional[Stream] = None) -> None:
        """The last node of a step."""
        check(lib.py_step_finish(self._handle, (stream or self.stream)._handle),
                    "eep_step_finish")

    def use_stream(self, stream: Stream) -> None:
        """The stream in which steps run from now on (eep_step_stream)."""
        check(lib.py_step_stream(self._handle, stream._handle), "eep_step_stream")
        self._runs_in(stream)

    def _runs_in(self, stream: Stream) -> None:
        self._stream = stream
        if stream not in self._streams:
            self._kept.setdefault("streams", []).append(stream)
        stream._contexts.add(self)

    def dispatch(self, layer: int, *, x: Any, topk_idx: Any, num_tokens: Any, rows: Any,
                 chain: int = 0, chunk: int = 0, form: Optional[Form] = None,
                 stream: Optional[Stream] = None, **others: Any) -> None:
        """Send tokens to the ranks of their experts, and receive those of this rank's experts.
        `others` are further arrays of `Buffers`: slot_begin, row_scales, packed_scales, placement,
        slot_counts, source_tokens, layout_range. Shapes are told there; all arrays are read and
        written at each replay."""
        self._put(lib.py_dispatch, "eep_dispatch", layer, stream, dispatch_arguments(
            self, form or Form(), chain, x=x, topk_idx=topk_idx, num_tokens=num_tokens, rows=rows,
            **others), chunk)

    def combine(self, layer: int, *, rows: Any, topk_weights: Any, num_tokens: Any, out: Any,
                out_dtype: Any = None, chain: int = 0, chunk: int = 0,
                stream: Optional[Stream] = None) -> None:
        """Send expert outputs `rows` back, and sum those of this rank's tokens into `out`."""
        self._put(lib.py_combine, "eep_combine", layer, stream, combine_arguments(
            self, self._num_rows(layer, chain), rows, topk_weights, num_tokens, out, out_dtype, chain),
            chunk)

    def dispatch_send(self, layer: int, *, x: Any, topk_idx: Any, num_tokens: Any, rows: Any,
                      chain: int = 0, chunk: int = 0, form: Optional[Form] = None,
                      stream: Optional[Stream] = None, **others: Any) -> None:
        """The first half of a dispatch: kernels may run before `dispatch_receive`."""
        self._put(lib.py_dispatch_send, "eep_dispatch_send", layer, stream, dispatch_arguments(
            self, form or Form(), chain, x=x, topk_idx=topk_idx, num_tokens=num_tokens, rows=rows,
            **others), chunk)

    def dispatch_receive(self, layer: int, chain: int = 0,
                         stream: Optional[Stream] = None) -> None:
        """The second half: `rows` and `slot_begin` are there behind it."""
        check(lib.py_dispatch_receive(self._handle, layer, chain,
                                            (stream or self.stream)._handle), "eep_dispatch_receive")

    def combine_send(self, layer: int, *, rows: Any, topk_weights: Any, num_tokens: Any, out: Any,
                     out_dtype: Any = None, chain: int = 0, chunk: int = 0,
                     stream: Optional[Stream] = None) -> None:
        """The first half of a combine."""
        self._put(lib.py_combine_send, "eep_combine_send", layer, stream, combine_arguments(
            self, self._num_rows(layer, chain), rows, topk_weights, num_tokens, out, out_dtype, chain),
            chunk)

    def combine_receive(self, layer: int, chain: int = 0, stream: Optional[Stream] = None) -> None:
        """The second half: `out` is there behind it."""
        check(lib.py_combine_receive(self._handle, layer, chain,
                                           (stream or self.stream)._handle), "eep_combine_receive")

    def _put(self, function: Callable[..., int], call: str, layer: int, stream: Optional[Stream],
             arguments: Arguments, chunk: int) -> None:
        where = stream or self.stream
        arguments.struct.chunk = chunk
        where._keep(arguments)
        check(function(self._handle, layer, where._handle, arguments.struct), call)
        if arguments.num_rows:
            self._rows[(layer, arguments.struct.chain)] = arguments.num_rows

    def _num_rows(self, layer: int, chain: int) -> int:
        return self._rows.get((layer, chain), self.rows_capacity)

    def step_words(self) -> StepWords:
        """Addresses for kernels that may take long: they look whether their step is over."""
        words = sized("eep_step_words")
        check(lib.py_step_words_get(self._handle, words), "eep_step_words_get")
        return StepWords(*(int(ffi.cast("uintptr_t", getattr(words, name)))
                           for name in ("running", "given_up", "aborted")))

    # ------------------------------------------------------------ joining and stepping

    def join(self, timeout: Optional[float] = None) -> None:
        """Weights are in and the step is captured: wait to be let in, at most `timeout` seconds
        (None: join_timeout_us). Timeout: call it again. Healthy ranks serve meanwhile."""
        if self._stream is None:
            self.use_stream(self.stream)
        left_us = self._join_us if timeout is None else microseconds(timeout)
        end = time.monotonic() + left_us / 1e6
        while True:
            status = lib.py_join(self._handle)
            if status == 0:
                return
            if status != TIMEOUT or time.monotonic() >= end:
                text = text_of(lib.eep_error_text()).replace(
                    f"within {self.config.join_timeout_us // 1000} ms", f"within {left_us // 1000} ms")
                raise error_of(status, "eep_join", text)

    def step(self, timeout: float = 1.0, shape: int = 0) -> Step:
        """A step, as a context manager. Its begin waits while the view is being changed, at most
        `timeout` seconds: Timeout, Uncovered, Evicted, Drained. Its end raises Aborted (compute the
        same positions again), BadStepInput (drop a request), KernelFailed, State or DeviceFailed.
        No exception: the results are right; make them current. An exception in the block aborts the
        step. `shape` is the one that this rank wants its steps to have; step.shape tells which one the
        step has: replay a graph of that shape."""
        return Step(self, microseconds(timeout), shape)

    def step_wait(self, timeout: float = 1.0) -> bool:
        """For a rank without work: True as soon as a peer has started a step (then run one, with
        zero tokens), False after `timeout` seconds."""
        try:
            wait_in_slices(lambda us: lib.py_step_wait(self._handle, us), timeout, "eep_step_wait")
        except EepError as error:
            if error.status == TIMEOUT:
                return False
            raise
        return True

    def _after_step(self) -> Optional[BaseException]:
        stream = self._stream
        if stream is None:
            return None
        stream._ran()
        return None if stream._server is None else fail_if_any(stream._server.failure)

    def _end_with_care(self, status: int) -> None:
        """Of a step that did not end OK, or one with kernels in Python, or without a graph."""
        error = None if status == 0 else error_of(status, "eep_step_end")
        failed = self._after_step()
        if failed is not None:
            raise KernelFailed(f"a kernel raised {type(failed).__name__}: {failed}") from failed
        if isinstance(error, BadStepInput):
            error.bad = self.bad_input()
        if error is not None:
            raise error

    def bad_input(self) -> Optional[BadInput]:
        """The first bad token of the last step that ended with BadStepInput; None: none did."""
        bad = sized("eep_bad_input")
        status = lib.py_bad_input_get(self._handle, bad)
        if status == NotFound.status:
            return None
        check(status, "eep_bad_input_get")
        return BadInput(enum_name("eep_bad_kind", bad.kind), bad.layer, bad.token, bad.k, bad.value,
                        bad.num_bad_tokens, bad.chain, bad.step)

    def abort(self) -> None:
        """End the running step soon, on all ranks. Any thread."""
        lib.py_step_abort(self._handle)

    def busy(self, seconds: float) -> None:
        """This rank compiles or collects garbage for so long: peers wait. 0: not any more. Any
        thread."""
        check(lib.py_busy(self._handle, microseconds(seconds)), "eep_busy")

    def drain(self) -> None:
        """Ask to leave: go on stepping until Drained."""
        check(lib.py_drain(self._handle), "eep_drain")

    def end_instance(self) -> None:
        """End the instance for all its ranks: each steps until Drained. Several may ask; where the
        end has come already, nothing happens."""
        try:
            check(lib.py_instance_end(self._handle), "eep_instance_end")
        except Drained:
            pass

    # ------------------------------------------------------------ log lines and events

    def poll(self) -> List[Union[LogLine, EventRecord]]:
        """What the log and the events brought since the last call, oldest first. Functions that
        were given as `log` and `event` are called with it here, in the caller's thread, and nowhere
        else. Any thread."""
        if self._queue[0] == ffi.NULL:
            return []
        records = take_records(self._queue[0])
        for record in records:
            log, event = self._handlers
            if isinstance(record, LogLine):
                if callable(log):
                    log(record)
            elif callable(event):
                event(record)
        return records

    def fileno(self) -> int:
        """A descriptor that is readable while `poll` has something; -1 without `log` and `event`.
        For select, or asyncio's add_reader."""
        return -1 if self._queue[0] == ffi.NULL else int(lib.eepy_queue_fd(self._queue[0]))
