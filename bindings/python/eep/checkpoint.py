# SPDX-License-Identifier: Apache-2.0
"""Safetensors files that weights are read from (eep/checkpoint.h)."""
from dataclasses import dataclass
from typing import Any, List, Optional, Tuple

import numpy as np

from .errors import check, error_of
from .loading import ffi, lib, text_of
from .objects import Closing
from .reports import sized
from .store import ERROR_BYTES


@dataclass(frozen=True)
class TensorInfo:
    """`dtype` is safetensors' name ("F32", "BF16", "F8_E4M3"); row-major."""

    dtype: str
    shape: Tuple[int, ...]
    nbytes: int


class Checkpoint(Closing):
    """A safetensors file, an index, or a folder of either. Opening reads and checks all headers and
    no weight. It may be closed before contexts that use it. Any thread."""

    _closer = "py_checkpoint_close"

    def __init__(self, path: str) -> None:
        super().__init__()
        error = ffi.new("char[]", ERROR_BYTES)
        status = lib.py_checkpoint_open(path.encode(), error, ERROR_BYTES, self._handle)
        if status != 0:
            raise error_of(status, "eep_checkpoint_open", text_of(error))
        self._opened()

    @property
    def names(self) -> List[str]:
        """Of all tensors, in order."""
        found: List[str] = []
        while True:
            name = lib.py_checkpoint_name(self._handle, len(found))
            if name == ffi.NULL:
                return found
            found.append(text_of(name))

    def find(self, name: str) -> TensorInfo:
        """What a tensor is; NotFound."""
        info = sized("eep_checkpoint_tensor")
        check(lib.py_checkpoint_find(self._handle, name.encode(), info), "eep_checkpoint_find")
        return TensorInfo(text_of(info.dtype), tuple(info.shape[at] for at in range(info.num_dims)),
                          info.bytes)

    def read(self, name: str, offset: int = 0,
             nbytes: Optional[int] = None) -> "np.ndarray[Any, Any]":
        """Bytes of a tensor, uint8 [nbytes], from its byte `offset` on. Waits for the disk."""
        if nbytes is None:
            nbytes = self.find(name).nbytes - offset
        found = np.empty(max(nbytes, 0), np.uint8)
        check(lib.py_checkpoint_read(self._handle, name.encode(), offset, found.nbytes,
                                     ffi.cast("void *", found.ctypes.data)), "eep_checkpoint_read")
        return found
