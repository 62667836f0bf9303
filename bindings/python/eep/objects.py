# SPDX-License-Identifier: Apache-2.0
"""What all objects of this package share: a handle, a close that may come twice, and an end of the
interpreter that finds them closed."""
import atexit
import weakref
from typing import Any, Dict, List, Type, TypeVar

from .errors import State
from .loading import ffi, lib

_Self = TypeVar("_Self", bound="Closing")
# In this order at the end of the interpreter.
_ORDER = ("Context", "Graph", "Event", "Stream", "Watch", "Sink", "Checkpoint", "Device", "Store")
_alive: "Dict[str, weakref.WeakSet[Closing]]" = {name: weakref.WeakSet() for name in _ORDER}
# What may still be written by a kernel that did not end: it is kept for ever.
leaked: List[Any] = []


class Closing:
    """An object of libeep. It is closed by `close()`, by the end of its `with` block, when nobody
    refers to it any more, and at the end of the interpreter."""

    _closer: str = ""  # the function of the extension module

    def __init__(self) -> None:
        self._handle = ffi.new("eepy_handle *")
        self._closing = False

    def _opened(self) -> None:
        """It has something to close from here on."""
        _alive[type(self).__mro__[_depth(type(self))].__name__].add(self)

    @property
    def closed(self) -> bool:
        return bool(self._handle.it == ffi.NULL)

    def close(self) -> None:
        """Close. Closing twice does nothing. `State`: another thread's call on it did not end
        within 10 s, and nothing was closed."""
        if getattr(lib, self._closer)(self._handle) < 0:
            raise State(f"{type(self).__name__}.close: another thread's call on it does not end")

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle is not None and handle.it != ffi.NULL:
            try:
                self.close()
            except State:
                leaked.append(self.__dict__)


def _depth(kind: Type[Closing]) -> int:
    """Which of its bases is named in _ORDER: a caller may derive from them."""
    return next(at for at, base in enumerate(kind.__mro__) if base.__name__ in _ORDER)


def close_all() -> None:
    """Close what is still open. Runs at the end of the interpreter."""
    for name in _ORDER:
        for thing in list(_alive[name]):
            try:
                thing.close()
            except Exception:  # pylint: disable=broad-except # the others are closed as well
                leaked.append(thing)


atexit.register(close_all)


def microseconds(seconds: float) -> int:
    """A time that a call takes; at most a day, as libeep's."""
    if not seconds >= 0:
        raise ValueError(f"a time of {seconds} s: it must be 0 or more")
    return int(min(seconds, 86400.0) * 1e6)
