# SPDX-License-Identifier: Apache-2.0
"""What libeep tells: views, faults, counters, placements, log lines, events. All are plain values."""
from dataclasses import dataclass, fields
from typing import Any, List, Tuple, Type, TypeVar, Union

import numpy as np

from .loading import ffi, lib, text_of

_Plain = TypeVar("_Plain")


def enum_name(kind: str, value: int) -> str:
    """The constant's last words in lower case: (eep_seat_state, EEP_SEAT_ACTIVE) is "active". A
    value that this version does not know is its number."""
    names = ffi.typeof(kind).elements
    if value not in names:
        return str(value)
    shared = _shared_begin(list(names.values()))
    return str(names[value])[len(shared):].lower()


def _shared_begin(names: List[str]) -> str:
    first, last = min(names), max(names)
    at = next((at for at, (a, b) in enumerate(zip(first, last)) if a != b), len(first))
    return first[:first.rfind("_", 0, at) + 1]


def plain(kind: Type[_Plain], struct: Any) -> _Plain:
    """A dataclass from a struct with fields of the same names."""
    return kind(**{field.name: getattr(struct, field.name)
                   for field in fields(kind)})  # type: ignore[arg-type]


def sized(name: str) -> Any:
    """A zeroed struct of libeep with its struct_bytes."""
    made = ffi.new(f"{name} *")
    made.struct_bytes = ffi.sizeof(name)
    return made


@dataclass(frozen=True)
class Seat:
    """A numbered place of a rank, and the process in it: the `generation`-th one."""

    state: str  # "vacant", "joining", "active", "retiring", "quarantined"
    generation: int

    @property
    def serves(self) -> bool:
        """In the view: requests stay where they are."""
        return self.state in ("active", "retiring")


def seats_of(array: Any, num: int) -> Tuple[Seat, ...]:
    return tuple(Seat(enum_name("eep_seat_state", array[at].state), array[at].generation)
                 for at in range(num))


@dataclass(frozen=True)
class View:
    """A committed view of an instance. While `is_serving` is false no rank steps."""

    epoch: int
    num_active: int
    max_ranks: int
    is_serving: bool
    seats: Tuple[Seat, ...]


@dataclass(frozen=True)
class Counters:
    """eep_counters: what this rank has counted since it opened."""

    steps_ok: int
    steps_aborted: int
    stale_dropped: int
    steps_aborted_by_join: int
    steps_waiting_on_join: int
    captures_after_join: int
    weights_bytes_in_pause: int
    window_bytes: int
    weights_bytes_background: int
    weights_bytes_own_node: int
    weights_bytes_other_rank: int
    weights_bytes_file: int
    weights_bytes_own_backup: int
    weights_bytes_live_replica: int
    fills_own_backup: int
    fills_node_backup: int
    fills_live_replica: int
    fills_other_backup: int
    fills_file: int
    fills_kept: int
    experts_reused: int


@dataclass(frozen=True)
class Snapshot:
    """One consistent picture: all of it belongs to `epoch`."""

    epoch: int
    num_active: int
    max_ranks: int
    seats: Tuple[Seat, ...]
    counters: Counters


@dataclass(frozen=True)
class Fault:
    """A rank that was expelled. `kind`: "exit", "reset", "device", "silent", "deadline",
    "left_out", "bad_answer", "expelled", "group"; `time_ns` is of CLOCK_MONOTONIC."""

    seat: int
    generation: int
    kind: str
    epoch: int
    time_ns: int


@dataclass(frozen=True)
class BadInput:
    """The first bad token of a step. `kind`: "num_tokens", "expert_range", "expert_twice",
    "expert_uncovered", "placement", "seat_inactive", "slot_empty". token and k are -1 where the whole batch is bad."""

    kind: str
    layer: int
    token: int
    k: int
    value: int
    num_bad_tokens: int
    chain: int
    step: int


@dataclass(frozen=True)
class Placement:
    """The placement of the newest view. `experts` int32 [num_layers, max_ranks, num_slots]: the
    logical expert in each slot, -1 for none; `pinned` bool, the same shape; the others as in
    eep_placement_info. `own_state`: "none", "waits", "in_force", "replaced", "refused"."""

    epoch: int
    number: int
    own_number: int
    own_state: str
    num_unmet: int
    num_unreachable: int
    experts: "np.ndarray[Any, Any]"
    pinned: "np.ndarray[Any, Any]"


@dataclass(frozen=True)
class ShapeInfo:
    """eep_shape_info: a step's size."""

    max_tokens: int     # most tokens of a rank in a step, in each chain
    num_chunks: int     # parts of each layer
    chunk_tokens: int   # most tokens of a rank in a chunk
    rows_capacity: int  # most rows that a dispatch of a chunk can deliver


@dataclass(frozen=True)
class StepWords:
    """Addresses for kernels that may take long (eep/words.h)."""

    running: int
    given_up: int
    aborted: int


@dataclass(frozen=True)
class LogLine:
    """A line of the log. `level`: "error", "warn", "info", "debug"; `dropped`: records that were
    lost before it, because nobody polled."""

    level: str
    text: str
    dropped: int = 0


@dataclass(frozen=True)
class EventRecord:
    """What happened (eep_event_info). `kind` as in eep_event_kind: "suspected", "installed", ...;
    seat -1: about nobody in particular; `time_ns` is of CLOCK_MONOTONIC."""

    kind: str
    seat: int
    generation: int
    epoch: int
    value: int
    time_ns: int
    dropped: int = 0


def take_records(queue: Any, most: int = 65536) -> List[Union[LogLine, EventRecord]]:
    """What waits in a queue, oldest first."""
    found: List[Any] = []
    record = ffi.new("eepy_record *")
    while len(found) < most and lib.eepy_queue_next(queue, record):
        if record.kind == lib.EEPY_RECORD_LOG:
            found.append(LogLine(enum_name("eep_log_level", record.level), text_of(record.line),
                                 record.dropped))
        else:
            found.append(EventRecord(enum_name("eep_event_kind", record.event), record.seat,
                                     record.generation, record.epoch, record.value, record.time_ns,
                                     record.dropped))
    return found


