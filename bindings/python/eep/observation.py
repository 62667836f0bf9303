# SPDX-License-Identifier: Apache-2.0
"""What a rank tells when it is asked: views, faults, loads, waits, placements (eep/eep.h)."""
from typing import Any, List

import numpy as np

from .errors import Invalid, NotFound, check
from .loading import ffi, lib
from .objects import Closing
from .reports import Counters, Fault, Placement, Snapshot, enum_name, plain, seats_of, sized


class Observation(Closing):
    """A part of Context."""

    config: Any

    def snapshot(self) -> Snapshot:
        """View, seats and counters, all of one epoch. Any thread."""
        snapshot, counters = sized("eep_snapshot"), sized("eep_counters")
        seats = ffi.new("eep_seat[]", max(1, self.config.max_ranks, self.config.num_ranks))
        check(lib.py_snapshot_get(self._handle, snapshot, counters, seats), "eep_snapshot_get")
        return Snapshot(snapshot.epoch, snapshot.num_active, snapshot.max_ranks,
                        seats_of(seats, snapshot.max_ranks), plain(Counters, counters))

    def faults(self) -> List[Fault]:
        """Expulsions that were not taken yet, oldest first. Any thread."""
        found: List[Fault] = []
        fault = sized("eep_fault")
        while True:
            status = lib.py_fault_next(self._handle, fault)
            if status == NotFound.status:
                return found
            check(status, "eep_fault_next")
            found.append(Fault(fault.seat, fault.generation, enum_name("eep_fault_kind", fault.kind),
                               fault.epoch, fault.time_ns))

    def loads(self) -> "np.ndarray[Any, Any]":
        """Tokens of this rank that each expert got: uint64 [num_layers, num_experts]. Any thread."""
        found = np.zeros((self.config.num_layers, self.config.num_experts), np.uint64)
        check(lib.py_loads_get(self._handle, ffi.cast("uint64_t *", found.ctypes.data)),
                    "eep_loads_get")
        return found

    def loads_set(self, loads: Any) -> None:
        """Loads [num_layers, num_experts] that placement goes by from now on; None: the measured
        ones. The same on all ranks. Any thread."""
        values = None if loads is None else np.ascontiguousarray(loads, np.uint32)
        shape = (self.config.num_layers, self.config.num_experts)
        if values is not None and values.shape != shape:
            raise Invalid(f"eep_loads_set: loads have shape {values.shape}: it must be {shape}")
        pointer = ffi.NULL if values is None else ffi.cast("uint32_t *", values.ctypes.data)
        check(lib.py_loads_set(self._handle, pointer), "eep_loads_set")

    def waits(self) -> "np.ndarray[Any, Any]":
        """How long receives waited for each seat, in nanoseconds: uint64 [max_ranks]. Any thread."""
        found = np.zeros(max(self.config.max_ranks, self.config.num_ranks), np.uint64)
        check(lib.py_waits_get(self._handle, ffi.cast("uint64_t *", found.ctypes.data)),
                    "eep_waits_get")
        return found

    def placement(self) -> Placement:
        """The placement of the newest view. Any thread."""
        shape = self._placement_shape()
        experts, pinned = np.empty(shape, np.int32), np.empty(shape, np.uint8)
        info = sized("eep_placement_info")
        check(lib.py_placement_get(
            self._handle, info, ffi.cast("int32_t *", experts.ctypes.data),
            ffi.cast("uint8_t *", pinned.ctypes.data)), "eep_placement_get")
        return Placement(info.epoch, info.number, info.own_number,
                         enum_name("eep_order_state", info.own_state), info.num_unmet,
                         info.num_unreachable, experts, pinned.astype(bool))

    def placement_set(self, number: int, experts: Any, pinned: Any = None) -> None:
        """Order a placement with a number: experts [num_layers, max_ranks, num_slots], -1: libeep
        decides, None: nothing is given any more; pinned, the same shape. Any thread after the
        join."""
        shape = self._placement_shape()
        order = sized("eep_placement")
        order.number = number
        kept = []
        for name, values, kind, ctype in (("experts", experts, np.int32, "int32_t *"),
                                          ("pinned", pinned, np.uint8, "uint8_t *")):
            if values is not None:
                array = np.ascontiguousarray(values, kind)
                if array.shape != shape:
                    raise Invalid(f"eep_placement_set: {name} have shape {array.shape}: it must be "
                                  f"{shape}")
                kept.append(array)
                setattr(order, name, ffi.cast(ctype, array.ctypes.data))
        check(lib.py_placement_set(self._handle, order), "eep_placement_set")

    def _placement_shape(self) -> Any:
        config = self.config
        return (config.num_layers, max(config.max_ranks, config.num_ranks), config.num_slots)
