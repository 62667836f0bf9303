# SPDX-License-Identifier: Apache-2.0
"""The parts of a rank that are about members and placements: evidence, masks, a descriptor for event
loops (eep/control.h, eep/forms.h)."""
from dataclasses import dataclass
from typing import Any, FrozenSet, Optional, Tuple

import numpy as np

from .arrays import register
from .configuration import Config, choose
from .device import Stream
from .errors import CLOSED, Conflict, System, Timeout, check, error_of
from .loading import ffi, lib
from .objects import Closing, microseconds
from .reports import plain, sized

KINDS = {"reset": "EEP_FAULT_RESET", "device": "EEP_FAULT_DEVICE",
         "bad_answer": "EEP_FAULT_BAD_ANSWER"}
MASKS = {"active": "EEP_MASK_ACTIVE", "masked": "EEP_MASK_MASKED"}
_READY = {lib.EEP_READY_VIEW: "view", lib.EEP_READY_FAULT: "fault", lib.EEP_READY_STEP: "step",
          lib.EEP_READY_OVER: "over"}


@dataclass(frozen=True)
class Verdict:
    """What a view has decided about a process. Neither out nor kept (0): nothing yet."""

    is_out: bool
    epoch: int
    kept_epoch: int


@dataclass(frozen=True)
class LivePlacement:
    """The placement that the running step, or the next one, goes by. `word` names it (rule P12).
    experts: int32 [num_layers, max_ranks * num_slots], indexed by physical id, -1: none."""

    epoch: int
    word: int
    experts: "np.ndarray[Any, Any]"


@dataclass(frozen=True)
class MemorySizes:
    """Bytes that one rank takes (eep_memory_sizes)."""

    window_bytes: int
    table_bytes: int
    device_bytes: int
    replaced_bytes: int
    pinned_bytes: int
    host_bytes: int
    rows_capacity: int
    rows_bytes: int


def memory_sizes(*, expert_bytes: int = 0, **fields: Any) -> MemorySizes:
    """What a rank of a shape takes, without a context. `fields` are those of eep_config;
    `expert_bytes`: of all tensors of one expert of a layer."""
    config = Config("default", {"num_layers": 1, **fields})
    sizes = sized("eep_memory_sizes")
    check(lib.eep_memory_sizes_get(config.struct, expert_bytes, sizes), "eep_memory_sizes_get")
    return plain(MemorySizes, sizes)


class Control(Closing):
    """A part of Context."""

    config: Any

    def fault_report(self, seat: int, generation: int, kind: str) -> None:
        """Evidence against a process, which this engine saw: "reset", "device" or "bad_answer". The
        members decide by a view; a report costs a pause. Any thread."""
        check(lib.py_fault_report(self._handle, seat, generation, choose("kind", kind, KINDS)),
              "eep_fault_report")

    def expel(self, seat: int, generation: int, timeout: float = 10.0) -> Verdict:
        """Leave a process out, and wait until a view has decided, at most `timeout` seconds. The
        verdict says so: `is_out`, or `kept_epoch` of the view that kept it, or neither: not decided
        yet. Any thread."""
        verdict = sized("eep_verdict")
        status = lib.py_expel(self._handle, seat, generation, microseconds(timeout), verdict)
        if status not in (0, Conflict.status, Timeout.status):
            raise error_of(status, "eep_expel")
        return Verdict(bool(verdict.is_out), verdict.epoch, verdict.kept_epoch)

    def ready_fileno(self) -> int:
        """A descriptor that is readable when `ready()` has something: for asyncio's add_reader. A
        rank without work so hears that a peer has begun a step. Any thread."""
        fd = int(lib.py_event_fd(self._handle))
        if fd < 0:
            raise error_of(CLOSED if self.closed else System.status, "eep_event_fd")
        return fd

    def ready(self) -> FrozenSet[str]:
        """What has happened since the last call: "view" (see `snapshot`), "fault" (see `faults`),
        "step" (run one), "over" (the next `step` tells). Call ready_fileno before. Any thread."""
        bits = ffi.new("uint32_t *")
        check(lib.py_event_drain(self._handle, bits), "eep_event_drain")
        return frozenset(name for bit, name in _READY.items() if bits[0] & bit)

    def live_placement(self) -> LivePlacement:
        """The placement to make physical ids under. It changes at the begin of a step only, where
        `step.epoch` is another one than before. NotFound: before the first step."""
        seats = max(self.config.max_ranks, self.config.num_ranks)
        experts = np.empty((self.config.num_layers, seats * self.config.num_slots), np.int32)
        live = sized("eep_live_placement")
        check(lib.py_live_placement_get(self._handle, live,
                                        ffi.cast("int32_t *", experts.ctypes.data)),
              "eep_live_placement_get")
        return LivePlacement(live.epoch, live.placement, experts)

    @property
    def active_mask(self) -> int:
        """The address of int32 [max_ranks] in device memory, 1: active, of the view that the running
        step goes by; for kernels behind the latch."""
        return int(ffi.cast("uintptr_t", lib.py_active_mask(self._handle)))

    def mask(self, kind: str = "active") -> "Tuple[np.ndarray[Any, Any], int]":
        """int32 [max_ranks] of the newest view, and its epoch. "active": 1 is active; "masked": 0
        is. Any thread."""
        found = np.zeros(max(self.config.max_ranks, self.config.num_ranks), np.int32)
        epoch = ffi.new("uint64_t *")
        check(lib.py_mask_get(self._handle, choose("kind", kind, MASKS),
                              ffi.cast("int32_t *", found.ctypes.data), epoch), "eep_mask_get")
        return found, int(epoch[0])

    def mask_put(self, out: Any, kind: str = "active", stream: Optional[Stream] = None) -> None:
        """Put a node that writes the mask of the step to `out`, int32 [max_ranks]."""
        where: Stream = stream or getattr(self, "stream")
        array = register(where.device, out)
        where._keep(array)
        check(lib.py_mask_put(self._handle, where._handle, choose("kind", kind, MASKS),
                              ffi.cast("int32_t *", array.address)), "eep_mask_put")


