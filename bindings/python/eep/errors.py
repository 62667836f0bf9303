# SPDX-License-Identifier: Apache-2.0
"""One exception for each status of libeep that is not EEP_OK, grouped as eep/status.h groups them:
by the largest thing the failure damaged. The text is libeep's."""
from typing import Any, ClassVar, Dict, Optional, Type

from .loading import ffi, lib, text_of


class EepError(Exception):
    """A call of libeep that did not succeed. `status` is its number, `name` that of the constant."""

    status: int = 0
    name: ClassVar[str] = ""

    def __init__(self, text: str = "", status: Optional[int] = None) -> None:
        super().__init__(text)
        if status is not None:
            self.status = status


class CallError(EepError):
    """The call failed, and nothing changed."""


class PeerError(EepError):
    """A peer is gone, or does not answer. The instance can heal."""


class RankError(EepError):
    """This rank's service is over. The others go on."""


class WorldError(EepError):
    """The instance cannot serve."""


class Invalid(CallError, ValueError):
    """EEP_ERR_INVALID: an argument is wrong; the text names it."""


class NoMemory(CallError, MemoryError):
    """EEP_ERR_NO_MEMORY."""


class Timeout(CallError, TimeoutError):
    """EEP_ERR_TIMEOUT: nothing happened within the time given. Look at your sockets, and call
    again."""


class Unsupported(CallError):
    """EEP_ERR_UNSUPPORTED: not by this build, device or machine."""


class NotFound(CallError, LookupError):
    """EEP_ERR_NOT_FOUND."""


class Conflict(CallError):
    """EEP_ERR_CONFLICT: somebody else changed it first."""


class State(CallError):
    """EEP_ERR_STATE: not allowed in the present state, as after a close or a fork."""


class System(CallError):
    """EEP_ERR_SYSTEM: a system call failed."""


class Protocol(CallError):
    """EEP_ERR_PROTOCOL: malformed bytes."""


class Checksum(CallError):
    """EEP_ERR_CHECKSUM: bytes do not match their checksum; of a join: these are not the instance's
    weights."""


class BadStepInput(CallError):
    """EEP_ERR_BAD_STEP_INPUT: the step's input broke its limits, and the step emitted nothing.
    `bad` says which token; drop its request and go on."""

    bad: Any = None


class NotOwner(CallError):
    """EEP_ERR_NOT_OWNER: it belongs to somebody else."""


class Duplicate(CallError):
    """EEP_ERR_DUPLICATE: it was done already."""


class Ahead(CallError):
    """EEP_ERR_AHEAD: something that comes before it is missing."""


class Aborted(PeerError):
    """EEP_ERR_ABORTED: the step met a fault. It emitted nothing: keep the state from before it, and
    compute the same positions again in the next step."""


class Unreachable(PeerError, ConnectionError):
    """EEP_ERR_UNREACHABLE: the peer or the store does not answer."""


class SeatTaken(PeerError):
    """EEP_ERR_SEAT_TAKEN: a living process holds the seat."""


class Evicted(RankError):
    """EEP_ERR_EVICTED: this process was expelled from the view. Close the context, and end."""


class Drained(RankError):
    """EEP_ERR_DRAINED: this rank has left the view as it asked."""


class Uncovered(WorldError):
    """EEP_ERR_UNCOVERED: experts without any live copy or backup."""


class DeviceFailed(WorldError):
    """EEP_ERR_DEVICE: the device failed."""


class KernelFailed(EepError):
    """A kernel that is a Python function raised an exception (this one's `__cause__`). The step was
    aborted: roll back. Status of this package, and none of libeep's."""


_OTHER_NAMES = {"DEVICE": "DeviceFailed"}


def _classes() -> Dict[int, Type[EepError]]:
    found: Dict[int, Type[EepError]] = {}
    for status, constant in ffi.typeof("eep_status_code").elements.items():
        if status == 0:
            continue
        word = constant[len("EEP_ERR_"):]
        name = _OTHER_NAMES.get(word, word.title().replace("_", ""))
        kind: Type[EepError] = globals().get(name) or \
            type(name, (_group(status),), {"__doc__": constant})
        kind.status, kind.name = status, constant
        found[status] = kind
    return found


def _group(status: int) -> Type[EepError]:
    """Of a status that a newer library has: that of its range in eep/status.h."""
    if status > -32:
        return CallError
    if status > -48:
        return PeerError
    return RankError if status > -64 else WorldError


STATUSES: Dict[int, Type[EepError]] = _classes()
CLOSED: int = lib.EEPY_CLOSED
TIMEOUT: int = Timeout.status


def error_of(status: int, call: str, text: Optional[str] = None) -> EepError:
    """The exception for a status, with libeep's text. For the thread that made the call."""
    if status == CLOSED:
        return State(f"{call}: it is closed")
    if not text:
        text = text_of(lib.eep_error_text()) or text_of(lib.eep_strerror(status))
    kind = STATUSES.get(status) or _group(status)
    return kind(text, status)


def check(status: int, call: str) -> None:
    if status != 0:
        raise error_of(status, call)
