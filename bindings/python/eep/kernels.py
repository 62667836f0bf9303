# SPDX-License-Identifier: Apache-2.0
"""Kernels of the engine: functions of C or CUDA by their address, and Python functions for the host
backend.

A Python function never runs in the stream's own thread. That thread hands the call to a thread of
Python's, which belongs to the stream, and waits for its end."""
import ctypes
import struct
import threading
import weakref
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from .arrays import Array, register
from .errors import Invalid
from .loading import ffi, lib

if TYPE_CHECKING:
    from .device import Device

_Address = Union[int, Any]
_RUN_TASK = ffi.addressof(lib, "eepy_run_task")


def _address_of(function: _Address) -> int:
    """Of a C function: a number, a ctypes function, or a cffi pointer."""
    if function is None:
        return 0
    if isinstance(function, int):
        return function
    if isinstance(function, ffi.CData):
        return int(ffi.cast("uintptr_t", function))
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class Kernel:
    """A kernel in machine code. `host` is the address of `void body(const void *args, eep_grid
    grid)`, `cuda` that of a __global__ function that takes the same struct by value; one of them
    may be missing. `keep` is kept alive with it (the library that it is in)."""

    def __init__(self, name: str, host: _Address = None, cuda: _Address = None,
                 keep: Any = None) -> None:
        self.name = name
        self._keep = (host, cuda, keep)
        self._name = ffi.new("char[]", name.encode())
        self._host = ffi.cast("void (*)(const void *, eep_grid)", _address_of(host))
        self._cuda = ffi.cast("void *", _address_of(cuda))

    def _struct(self, args: Any, num_args: int) -> Any:
        return ffi.new("eep_kernel *", {
            "struct_bytes": ffi.sizeof("eep_kernel"), "num_args": num_args, "name": self._name,
            "host": self._host, "cuda": self._cuda, "args": args})


class Packed:
    """Argument bytes of a launch, laid out as C lays out a struct of them, and what each is."""

    def __init__(self, device: "Device", arguments: Sequence[Any]) -> None:
        self.keep: List[Any] = []
        self.bytes = b""
        places: List[Tuple[int, int, int]] = []
        for argument in arguments:
            kind, data = self._pack(device, argument)
            self.bytes += b"\0" * (-len(self.bytes) % len(data))
            places.append((len(self.bytes), len(data), kind))
            self.bytes += data
        self.num = len(places)
        self.places = ffi.new("eep_kernel_arg[]", self.num) if places else ffi.NULL
        for at, (offset, size, kind) in enumerate(places):
            name = ffi.new("char[]", f"argument {at}".encode())
            self.keep.append(name)
            self.places[at].name = name
            self.places[at].offset, self.places[at].bytes, self.places[at].kind = offset, size, kind

    def _pack(self, device: "Device", argument: Any) -> Tuple[int, bytes]:
        if argument is None:
            return lib.EEP_ARG_ADDRESS, b"\0" * 8
        if isinstance(argument, (bool, int)):
            return lib.EEP_ARG_CONSTANT, struct.pack("=q", argument)
        if isinstance(argument, float):
            return lib.EEP_ARG_CONSTANT, struct.pack("=d", argument)
        if isinstance(argument, np.generic):
            return lib.EEP_ARG_CONSTANT, argument.tobytes()
        if isinstance(argument, ctypes._SimpleCData):
            return lib.EEP_ARG_CONSTANT, bytes(argument)
        array = register(device, argument)
        self.keep.append(array)
        return lib.EEP_ARG_ADDRESS, struct.pack("=Q", array.address)


class _Task:
    __slots__ = ("function", "arguments", "once")

    def __init__(self, function: Callable[..., Any], arguments: Tuple[Any, ...], once: bool):
        self.function, self.arguments, self.once = function, arguments, once


class Server:
    """The thread of a stream that runs its kernels in Python."""

    def __init__(self, contexts: "weakref.WeakSet[Any]") -> None:
        self._holder = ffi.new("eepy_server **", lib.eepy_server_open())
        self._server = self._holder[0]
        if self._server == ffi.NULL:
            raise MemoryError("a server of kernels")
        self.tasks: Dict[int, _Task] = {}
        self.failure: List[BaseException] = []
        self._next = 0
        self.kernel = Kernel("a Python function", _RUN_TASK)
        self._thread = threading.Thread(target=_serve, name="eep kernels", daemon=True, args=(
            self._server, self.tasks, self.failure, contexts))
        self._thread.start()

    def add(self, function: Callable[..., Any], arguments: Sequence[Any],
            once: bool) -> Tuple[int, bytes]:
        """Note a call of the function with numpy views of its arrays. Returns its number, and the
        argument bytes of the launch."""
        views = tuple(one.numpy() if isinstance(one, Array) else one for one in arguments)
        self._next += 1
        self.tasks[self._next] = _Task(function, views, once)
        task = ffi.new("eepy_task *", {"server": self._server, "number": self._next})
        return self._next, bytes(ffi.buffer(task))

    def close(self) -> None:
        """Behind the stream's: its worker runs nothing more. Again: nothing."""
        if self._holder[0] == ffi.NULL:
            return
        lib.eepy_server_stop(self._server)
        if self._thread is not threading.current_thread():
            self._thread.join(5)
            if not self._thread.is_alive():
                lib.eepy_server_close(self._holder)
        self.tasks.clear()


def _serve(server: Any, tasks: Dict[int, _Task], failure: List[BaseException],
           contexts: "weakref.WeakSet[Any]") -> None:
    number = ffi.new("uint64_t *")
    while lib.eepy_server_wait(server, number):
        try:
            task = tasks[number[0]]
            if task.once:
                del tasks[number[0]]
            task.function(*task.arguments)
            del task
        except BaseException as exception:  # pylint: disable=broad-except # told to the step's caller
            failure.append(exception)
            for context in list(contexts):
                lib.py_step_abort(context._handle)
        finally:
            lib.eepy_server_done(server)


def fail_if_any(failure: List[BaseException]) -> Optional[BaseException]:
    """The first exception of a kernel since the last call."""
    if not failure:
        return None
    first = failure[0]
    failure.clear()
    return first


def refuse_arguments(kernel: Any) -> Invalid:
    return Invalid(f"a kernel is a Python function or an eep.Kernel, not a {type(kernel).__name__}")


