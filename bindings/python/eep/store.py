# SPDX-License-Identifier: Apache-2.0
"""The embedded store (eep/store.h): it holds the view, and ranks read it when that changes."""
import os
import shutil
import tempfile
from typing import Optional

from .errors import error_of
from .loading import ffi, lib, text_of
from .objects import Closing

ERROR_BYTES = 512


class Store(Closing):
    """A store that serves on the unix socket `path` from a thread of its own. Its folder must exist
    and be closed to others (mode 0700). Without a path it makes a folder of its own below TMPDIR,
    which goes away with it. Ranks get `store.path`."""

    _closer = "py_store_close"

    def __init__(self, path: Optional[str] = None) -> None:
        super().__init__()
        self._pid = os.getpid()
        self._folder = tempfile.mkdtemp(prefix="eep-") if path is None else None
        self.path = os.path.join(self._folder, "store") if self._folder else str(path)
        error = ffi.new("char[]", ERROR_BYTES)
        status = lib.py_store_open(self.path.encode(), error, ERROR_BYTES, self._handle)
        if status != 0:
            self._remove_folder()
            raise error_of(status, "eep_store_open", text_of(error))
        self._opened()

    def close(self) -> None:
        """Stop serving and remove the sockets. In a forked child it does nothing to the parent's."""
        super().close()
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder and self._pid == os.getpid():
            shutil.rmtree(self._folder, ignore_errors=True)

    @staticmethod
    def forget(path: str) -> None:
        """Remove what an instance left in the store at `path`, once none of its processes lives."""
        error = ffi.new("char[]", ERROR_BYTES)
        status = lib.eep_store_forget(path.encode(), error, ERROR_BYTES)
        if status != 0:
            raise error_of(status, "eep_store_forget", text_of(error))
