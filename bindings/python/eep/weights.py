# SPDX-License-Identifier: Apache-2.0
"""A rank's weights: its slots, the copies for repairs, and its checkpoint (eep/eep.h)."""
from typing import Any, Dict, List, Sequence

import numpy as np

from .arrays import Array, register
from .checkpoint import Checkpoint
from .device import Device
from .errors import check
from .loading import ffi, lib
from .objects import Closing


class Weights(Closing):
    """A part of Context."""

    config: Any
    device: Device
    _kept: Dict[Any, Any]  # what libeep borrows until the close

    def slot_expert(self, layer: int, slot: int) -> int:
        """The logical expert that the slot is to hold; -1: none. Between open and join."""
        return int(lib.py_slot_expert(self._handle, layer, slot))

    def slot_set(self, layer: int, slot: int, tensors: Sequence[Any]) -> List[Array]:
        """Give a slot its memory: one array for each tensor, borrowed until the close, filled with
        the weights of `slot_expert` before the join. A repair overwrites it. All slots have the
        same sizes, and no two share memory."""
        arrays = [register(self.device, tensor) for tensor in tensors]
        check(lib.py_slot_set(self._handle, layer, slot, _tensors(arrays), len(arrays)),
                    "eep_slot_set")
        self._kept[(layer, slot)] = arrays
        return arrays

    def slot_alloc(self, layer: int, slot: int, shapes: Sequence[Any],
                   dtype: Any = "float32") -> List[Array]:
        """The same in new memory of the device: a shape for each tensor. Fill them by
        `array.write(...)`, or `array[...] = ...` on the host."""
        return self.slot_set(layer, slot, [self.device.zeros(shape, dtype, "device")
                                           for shape in shapes])

    def backup_wanted(self, layer: int, expert: int) -> bool:
        """Whether this rank is meant to put a copy of the expert into its node's memory."""
        return bool(lib.py_backup_wanted(self._handle, layer, expert))

    def backup_set(self, layer: int, expert: int, tensors: Sequence[Any]) -> None:
        """Copy an expert from host memory into the node's, for repairs. Its tensors have a slot's
        sizes. Before the join."""
        arrays = [register(self.device, tensor) for tensor in tensors]
        check(lib.py_backup_set(self._handle, layer, expert, _tensors(arrays), len(arrays)),
                    "eep_backup_set")

    def checkpoint_set(self, checkpoint: Checkpoint, names: Sequence[str],
                       first_layer: int = 0) -> None:
        """Say that all experts' weights lie in a checkpoint: a name for each tensor of a slot, with
        {layer} and {expert}. Repairs read it last. Between open and join."""
        texts = [ffi.new("char[]", name.encode()) for name in names]
        check(lib.py_checkpoint_set_names(
            self._handle, checkpoint._handle, len(texts), ffi.new("char *[]", texts), first_layer),
            "eep_checkpoint_set_names")

    def checkpoint_load(self, layer: int, expert: int, tensors: Sequence[Any]) -> None:
        """Read an expert from the checkpoint into arrays of the host."""
        arrays = [register(self.device, tensor) for tensor in tensors]
        check(lib.py_checkpoint_load(self._handle, layer, expert, _tensors(arrays),
                                           len(arrays)), "eep_checkpoint_load")

    def physical_to_logical(self) -> "np.ndarray[Any, Any]":
        """Which expert lies in which slot by the newest view: int32 [num_layers, num_slots], -1:
        none. A copy, for inspection."""
        found = np.empty((self.config.num_layers, self.config.num_slots), np.int32)
        check(lib.eepy_slots_copy(self._handle, ffi.cast("int32_t *", found.ctypes.data),
                                        found.nbytes), "eep_physical_to_logical")
        return found


def _tensors(arrays: Sequence[Array]) -> Any:
    made = ffi.new("eep_tensor[]", max(1, len(arrays)))
    for at, array in enumerate(arrays):
        made[at].data, made[at].bytes = ffi.cast("void *", array.address), array.nbytes
    return made
