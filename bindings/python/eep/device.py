# SPDX-License-Identifier: Apache-2.0
"""Devices, streams, graphs and events (eep/device.h)."""
import threading
import time
import weakref
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple, Union

from . import arrays
from .arrays import Array
from .errors import TIMEOUT, Invalid, KernelFailed, State, Unsupported, check, error_of
from .kernels import Kernel, Packed, Server, fail_if_any, refuse_arguments
from .loading import ffi, lib
from .objects import Closing, leaked, microseconds

_SLICE_US = 100000  # a wait looks for signals (Ctrl-C) so often


def device_count(backend: str) -> int:
    """How many devices of a backend this machine has: 1 of "host"; 0 where what "cuda" needs is
    missing."""
    return int(lib.eep_device_count(backend.encode()))


class Device(Closing):
    """A device: "host" (kernels are C or Python functions), "guarded" (the same with memory that
    only kernels may touch, for tests) or "cuda". Any thread may use it."""

    _closer = "py_device_close"

    def __init__(self, backend: str = "host", ordinal: int = 0) -> None:
        super().__init__()
        self._registrations: "weakref.WeakValueDictionary[Tuple[int, int], Any]" = \
            weakref.WeakValueDictionary()
        self.backend = backend
        self.ordinal = ordinal
        check(lib.py_device_open(backend.encode(), ordinal, self._handle), "eep_device_open")
        self._opened()

    def zeros(self, shape: Union[int, Sequence[int]], dtype: Any = "float32",
              memory: str = "pinned") -> Array:
        """Zeroed memory as an array of `shape`. "pinned": of the host, and kernels reach it;
        "device": what kernels read fastest, not for the CPU except on "host". Not while this thread
        captures, and on a GPU not between the first step and the end."""
        return arrays.zeros(self, shape, dtype, memory)

    def register(self, source: Any) -> Array:
        """Another library's memory (a numpy array, a torch tensor, whatever has `__dlpack__`) as an
        Array, without a copy. It must stay where it is; the Array keeps it alive."""
        return arrays.register(self, source)

    def stream(self) -> "Stream":
        return Stream(self)

    def adopt(self, native: int) -> "Stream":
        """A stream of the caller's (`torch.cuda.Stream.cuda_stream`), borrowed: it must live until
        this one is closed."""
        return Stream(self, native)

    def event(self) -> "Event":
        return Event(self)

    @property
    def captures(self) -> int:
        """Captures that have ended on this device."""
        return int(lib.py_device_captures(self._handle))

    def _copy_now(self, to: Array, source: Array) -> None:
        with Stream(self) as stream:
            stream.copy(to, source)
            stream.synchronize(60.0)


class Stream(Closing):
    """Runs what is put into it in order, beside other streams and beside the caller."""

    _closer = "py_stream_close"

    def __init__(self, device: Device, native: Optional[int] = None) -> None:
        super().__init__()
        self.device = device
        self._contexts: "weakref.WeakSet[Any]" = weakref.WeakSet()  # whose steps run in it
        self._server: Optional[Server] = None
        self._server_lock = threading.Lock()
        self._captured: Optional[List[Any]] = None  # what the graph that is captured refers to
        self._eager: List[Any] = []                 # what runs without a graph refers to
        if native is None:
            check(lib.py_stream_open(device._handle, self._handle), "eep_stream_open")
        else:
            check(lib.py_stream_adopt(device._handle, ffi.cast("void *", native), self._handle),
                  "eep_stream_adopt")
        self._opened()

    @property
    def native(self) -> int:
        """The backend's own stream: a cudaStream_t on a GPU."""
        return int(ffi.cast("uintptr_t", lib.py_stream_native(self._handle)))

    @property
    def is_capturing(self) -> bool:
        return bool(lib.py_stream_is_capturing(self._handle))

    def _keep(self, *things: Any) -> None:
        """What is put now refers to these: they live as long as the graph, or until it has run."""
        (self._eager if self._captured is None else self._captured).extend(things)

    def _ran(self) -> None:
        """The stream was empty a moment ago, and this thread has put nothing since."""
        self._eager.clear()

    def launch(self, kernel: Union[Kernel, Callable[..., Any]], *arguments: Any, blocks: int = 1,
               threads: int = 1) -> None:
        """Put a kernel into the stream.

        A Python function (host backend) is called once, with numpy views of arrays and with other
        arguments as they are. If it raises, the step ends with KernelFailed. A `Kernel` gets its
        arguments as a C struct: an array is its address, None a NULL pointer, an int an int64_t, a
        float a double; ctypes and numpy scalars have their own size. A single ctypes Structure, or
        bytes, is the struct itself, of which libeep then checks nothing."""
        if isinstance(kernel, Kernel):
            self._launch_code(kernel, arguments, blocks, threads)
        elif callable(kernel):
            self._launch_function(kernel, arguments)
        else:
            raise refuse_arguments(kernel)

    def _launch_code(self, kernel: Kernel, arguments: Tuple[Any, ...], blocks: int,
                     threads: int) -> None:
        if len(arguments) == 1 and _is_struct(arguments[0]):
            data, made = bytes(arguments[0]), kernel._struct(ffi.NULL, 0)
            self._put(made, blocks, threads, data, (kernel, made, arguments))
            return
        packed = Packed(self.device, arguments)
        made = kernel._struct(packed.places, packed.num)
        self._put(made, blocks, threads, packed.bytes, (kernel, made, packed))

    def _launch_function(self, function: Callable[..., Any], arguments: Tuple[Any, ...]) -> None:
        if self.device.backend == "cuda":
            raise Unsupported("a Python function is no kernel of a GPU")
        if self.closed:
            raise State("eep_launch: the stream is closed")
        with self._server_lock:
            if self._server is None:
                self._server = Server(self._contexts)
        views = tuple(self._view(one) for one in arguments)
        number, data = self._server.add(function, views, self._captured is None)
        try:
            made = self._server.kernel._struct(ffi.NULL, 0)
            self._put(made, 1, 1, data, (made, arguments, _TaskEnd(self._server, number)))
        except BaseException:
            self._server.tasks.pop(number, None)
            raise

    def _view(self, argument: Any) -> Any:
        """Of guarded memory too, which is open while a kernel runs."""
        if isinstance(argument, Array) and not argument.on_host:
            return arrays.unguarded(argument)
        return argument

    def _put(self, kernel: Any, blocks: int, threads: int, data: bytes, keep: Any) -> None:
        self._keep(keep)
        check(lib.py_launch(self._handle, kernel, blocks, threads, data, len(data)), "eep_launch")

    def copy(self, to: Any, source: Any) -> None:
        """Copy all of `source` to the begin of `to`, in stream order."""
        there, here = self.device.register(to), self.device.register(source)
        if here.nbytes > there.nbytes:
            raise Invalid(f"{here.nbytes} bytes do not fit into {there.nbytes}")
        self._keep(there, here)
        check(lib.py_copy_async(self._handle, ffi.cast("void *", there.address),
                                ffi.cast("void *", here.address), here.nbytes), "eep_copy_async")

    def synchronize(self, timeout: float = 60.0) -> None:
        """Wait until the stream is empty; Timeout after `timeout` seconds. KernelFailed: a Python
        function that was launched without a graph raised."""
        wait_in_slices(lambda us: lib.py_stream_synchronize(self._handle, us), timeout,
                       "eep_stream_synchronize")
        self._ran()
        self._raise_failure()

    def _raise_failure(self) -> None:
        failed = None if self._server is None else fail_if_any(self._server.failure)
        if failed is not None:
            raise KernelFailed(f"a kernel raised {type(failed).__name__}: {failed}") from failed

    def record(self, event: "Event") -> None:
        """The event happens when all that is now in the stream is done."""
        check(lib.py_event_record(event._handle, self._handle), "eep_event_record")

    def wait(self, event: "Event") -> None:
        """What follows in the stream waits for the event's last record."""
        check(lib.py_stream_wait_event(self._handle, event._handle), "eep_stream_wait_event")

    @contextmanager
    def capture(self) -> Iterator["Graph"]:
        """Record what is put into the stream instead of running it. The graph is there behind the
        `with` block. An exception in the block ends the capture without a graph."""
        graph = Graph(self)
        begin_capture(self)
        try:
            yield graph
        except BaseException:
            end_capture(self, None)
            raise
        end_capture(self, graph)

    def close(self) -> None:
        """Finish what is in the stream, and close it."""
        super().close()
        if self._server is not None:
            self._server.close()
        self._eager.clear()


class _TaskEnd:
    """A Python kernel of a graph is forgotten with the graph."""

    def __init__(self, server: Server, number: int) -> None:
        self._tasks, self._number = server.tasks, number

    def __del__(self) -> None:
        self._tasks.pop(self._number, None)


def _is_struct(argument: Any) -> bool:
    return isinstance(argument, bytes) or hasattr(type(argument), "_fields_")


def begin_capture(stream: Stream) -> None:
    if stream._captured is not None:
        raise State("eep_capture_begin: the stream is captured already")
    check(lib.py_capture_begin(stream._handle), "eep_capture_begin")
    stream._captured = []


def end_capture(stream: Stream, graph: "Optional[Graph]") -> None:
    """Without a graph: the capture is dropped."""
    kept, stream._captured = stream._captured, None
    target = Graph(stream) if graph is None else graph
    status = lib.py_capture_end(stream._handle, target._handle)
    if graph is None:
        if status == 0:
            lib.py_graph_close(target._handle)
        return
    check(status, "eep_capture_end")
    target._kept = kept or []
    target._opened()


class Graph(Closing):
    """What a capture recorded. It keeps alive all arrays and kernels that it refers to."""

    _closer = "py_graph_close"

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream
        self._kept: List[Any] = []

    def replay(self, stream: Optional[Stream] = None) -> None:
        """Run it in the stream that it was captured in, or in another one. Waits for nothing."""
        status = lib.py_graph_replay(self._handle, (stream or self.stream)._handle)
        if status != 0:
            raise error_of(status, "eep_graph_replay")

    @property
    def num_nodes(self) -> int:
        return int(lib.py_graph_num_nodes(self._handle))

    def close(self) -> None:
        """Close. A replay that still runs ends as it would, with all it refers to."""
        super().close()
        if self._kept:
            if lib.py_stream_synchronize(self.stream._handle, 0) == TIMEOUT:
                leaked.append(self._kept)
            self._kept = []


class Event(Closing):
    """A moment in a stream."""

    _closer = "py_event_close"

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device
        check(lib.py_event_open(device._handle, self._handle), "eep_event_open")
        self._opened()

    def synchronize(self, timeout: float = 60.0) -> None:
        """Wait until it has happened; Timeout after `timeout` seconds."""
        wait_in_slices(lambda us: lib.py_event_synchronize(self._handle, us), timeout,
                       "eep_event_synchronize")


def wait_in_slices(call: Callable[[int], int], timeout: float, name: str) -> None:
    """Call with at most a slice of the time at once, so that Ctrl-C is heard between them."""
    left_us = microseconds(timeout)
    end = time.monotonic() + left_us / 1e6
    while True:
        status = call(min(max(left_us, 0), _SLICE_US))
        if status != TIMEOUT or left_us <= _SLICE_US:
            check(status, name)
            return
        left_us = int((end - time.monotonic()) * 1e6)


