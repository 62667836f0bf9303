# SPDX-License-Identifier: Apache-2.0
"""The views of an instance, for a program that is no rank (eep/watch.h)."""
import asyncio
import time
from typing import Any, AsyncIterator

from .errors import TIMEOUT, Timeout, check, error_of
from .loading import ffi, lib, text_of
from .objects import Closing, microseconds
from .reports import View, seats_of, sized
from .store import ERROR_BYTES

MAX_RANKS: int = lib.EEP_MAX_RANKS
_SLICE_US = 100000
_WITHOUT_STORE_S = 0.02


class Watch(Closing):
    """Follows the views in the store at `store_path`; waits at most `timeout` seconds for the store.

        async for view in watch: ...        in asyncio; the first one is the present view
        view = watch.next(timeout)          in a thread

    Views come from ranks: when all of them die, none tells so. One thread at a time."""

    _closer = "py_watch_close"

    def __init__(self, store_path: str, timeout: float = 5.0) -> None:
        super().__init__()
        error = ffi.new("char[]", ERROR_BYTES)
        status = lib.py_watch_open(store_path.encode(), microseconds(timeout), error, ERROR_BYTES,
                                   self._handle)
        if status != 0:
            raise error_of(status, "eep_watch_open", text_of(error))
        self._seats: Any = ffi.new("eep_seat[]", MAX_RANKS)
        self._opened()

    def next(self, timeout: float = 60.0) -> View:
        """The next view, in order of commits; Timeout after `timeout` seconds."""
        left_us = microseconds(timeout)
        end = time.monotonic() + left_us / 1e6
        info = sized("eep_view_info")
        while True:
            status = lib.py_watch_next(self._handle, min(max(left_us, 0), _SLICE_US), info,
                                       self._seats, MAX_RANKS)
            if status != TIMEOUT or left_us <= _SLICE_US:
                break
            left_us = int((end - time.monotonic()) * 1e6)
        check(status, "eep_watch_next")
        return View(info.epoch, info.num_active, info.max_ranks, bool(info.is_serving),
                    seats_of(self._seats, info.max_ranks))

    def fileno(self) -> int:
        """To poll for reading, then `next(0)` until Timeout. It changes when the store was away,
        and is -1 meanwhile: ask before each poll."""
        return int(lib.py_watch_fd(self._handle))

    def __aiter__(self) -> AsyncIterator[View]:
        return self

    async def __anext__(self) -> View:
        if self.closed:
            raise StopAsyncIteration
        while True:
            try:
                return self.next(0)
            except Timeout:
                await self._readable()

    async def _readable(self) -> None:
        """Until the descriptor can be read; while the store is away, a moment."""
        fd = self.fileno()
        if fd < 0:
            await asyncio.sleep(_WITHOUT_STORE_S)
            return
        loop = asyncio.get_running_loop()
        ready: "asyncio.Future[None]" = loop.create_future()
        loop.add_reader(fd, _settle, ready)
        try:
            await asyncio.wait_for(asyncio.shield(ready), 1.0)
        except asyncio.TimeoutError:
            pass  # the descriptor may have changed
        finally:
            loop.remove_reader(fd)
            ready.cancel()


def _settle(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
