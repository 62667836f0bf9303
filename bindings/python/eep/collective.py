# SPDX-License-Identifier: Apache-2.0
"""Small collectives of host memory over the members of the view (eep/collectives.h)."""
from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Tuple

import numpy as np

from .configuration import choose
from .device import wait_in_slices
from .errors import Invalid
from .loading import ffi, lib
from .objects import Closing
from .reports import sized

OPERATIONS = {"sum": "EEP_REDUCE_SUM", "min": "EEP_REDUCE_MIN", "max": "EEP_REDUCE_MAX",
              "and": "EEP_REDUCE_AND", "or": "EEP_REDUCE_OR"}
_TYPES = {"int32": lib.EEP_REDUCE_INT32, "int64": lib.EEP_REDUCE_INT64,
          "float32": lib.EEP_REDUCE_FP32, "float64": lib.EEP_REDUCE_FP64}


@dataclass(frozen=True)
class Collective:
    """How a collective ended: under which epoch, its number, and the seats that contributed."""

    epoch: int
    number: int
    contributors: Tuple[int, ...]


class Collectives(Closing):
    """A part of Context. Every member makes the same calls in the same order, in any one thread at
    a time. A call ends OK on all members alike, or changes nothing. Timeout: the same call, with the
    same arguments, goes on waiting. Aborted: a fault; make the same call again."""

    config: Any

    def barrier(self, timeout: float = 10.0) -> Collective:
        """Ends when all members have called it."""
        return self._wait("eep_collective_barrier", timeout, lambda us, result:
                          lib.py_collective_barrier(self._handle, us, result))

    def broadcast(self, root: int, array: "np.ndarray[Any, Any]",
                  timeout: float = 10.0) -> Collective:
        """The contents of `array` of the rank in seat `root` go to all members' arrays of the same
        size, in place."""
        address, nbytes = _of(array, True)
        return self._wait("eep_collective_broadcast", timeout, lambda us, result:
                          lib.py_collective_broadcast(self._handle, root, address, nbytes, us,
                                                      result))

    def allgather(self, data: bytes, most: int,
                  timeout: float = 10.0) -> "Tuple[List[Optional[bytes]], Collective]":
        """What each member sends, at most `most` bytes, which is the same on all: a list with an
        entry for each seat, None for a seat that did not contribute."""
        seats = max(self.config.max_ranks, self.config.num_ranks)
        found, sizes = np.zeros((seats, most), np.uint8), np.zeros(seats, np.uint64)
        sent = ffi.from_buffer(data or b"\0")
        told = self._wait(
            "eep_collective_allgather", timeout, lambda us, result: lib.py_collective_allgather(
                self._handle, sent, len(data), ffi.cast("void *", found.ctypes.data), most,
                ffi.cast("uint64_t *", sizes.ctypes.data), us, result))
        return [found[seat, :int(sizes[seat])].tobytes() if seat in told.contributors else None
                for seat in range(seats)], told

    def allreduce(self, array: "np.ndarray[Any, Any]", operation: str = "sum",
                  timeout: float = 10.0) -> Collective:
        """Reduce `array` (int32, int64, float32 or float64) over all members, in place: "sum",
        "min", "max", and of integers "and", "or"."""
        address, _ = _of(array, True)
        if array.dtype.name not in _TYPES:
            raise Invalid(f"allreduce: dtype is {array.dtype}: it must be {', '.join(_TYPES)}")
        return self._wait(
            "eep_collective_allreduce", timeout, lambda us, result: lib.py_collective_allreduce(
                self._handle, address, address, array.size, _TYPES[array.dtype.name],
                choose("operation", operation, OPERATIONS), us, result))

    def _wait(self, name: str, timeout: float, call: Callable[[int, Any], int]) -> Collective:
        result = sized("eep_collective_result")
        wait_in_slices(lambda us: call(us, result), timeout, name)
        contributors = tuple(64 * word + bit for word in range(len(result.contributors))
                             if result.contributors[word] for bit in range(64)
                             if result.contributors[word] >> bit & 1)
        return Collective(result.epoch, result.number, contributors)


def _of(array: Any, writes: bool) -> Tuple[Any, int]:
    if not isinstance(array, np.ndarray) or not array.flags.c_contiguous or \
            (writes and not array.flags.writeable):
        raise Invalid("a collective takes a numpy array that is contiguous and writable")
    return ffi.cast("void *", array.ctypes.data), int(array.nbytes)
