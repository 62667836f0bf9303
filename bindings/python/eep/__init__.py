# SPDX-License-Identifier: Apache-2.0
"""libeep from Python: elastic expert parallelism for engines. docs/PYTHON.md begins with a program.

    store = eep.Store()
    with eep.Context(store, rank=0, num_ranks=1, num_experts=2, top_k=2, hidden=8) as context:
        ...

Exceptions are named after libeep's statuses (eep.Aborted, eep.Evicted, ...); all of them are
EepErrors. Times of calls are in seconds, those of eep_config in microseconds."""
from .arrays import Array
from .buffers import Buffers, Form, FormSizes
from .checkpoint import Checkpoint, TensorInfo
from .collective import Collective
from .configuration import window_sizes
from .context import Context, Step
from .control import LivePlacement, MemorySizes, Verdict, memory_sizes
from .device import Device, Event, Graph, Stream, device_count
from .errors import (Aborted, Ahead, BadStepInput, CallError, Checksum, Conflict, DeviceFailed,
                     Drained, Duplicate, EepError, Evicted, Invalid, KernelFailed, NoMemory,
                     NotFound, NotOwner, PeerError, Protocol, RankError, SeatTaken, State, System,
                     Timeout, Uncovered, Unreachable, Unsupported, WorldError)
from .kernels import Kernel
from .launch import Launch, launch
from .loading import info, version
from .reports import (BadInput, Counters, EventRecord, Fault, LogLine, Placement, Seat, ShapeInfo,
                      Snapshot, StepWords, View)
from .sink import Sink
from .store import Store
from .watch import Watch

__version__ = version()
__all__ = [
    "Aborted", "Ahead", "Array", "BadInput", "BadStepInput", "Buffers", "CallError", "Checkpoint",
    "Checksum", "Collective", "Conflict", "Context", "Counters", "Device", "DeviceFailed", "Drained", "Duplicate",
    "EepError", "Event", "EventRecord", "Evicted", "Fault", "Form", "FormSizes", "Graph", "Invalid", "Kernel",
    "KernelFailed", "Launch", "LivePlacement", "LogLine", "MemorySizes", "NoMemory", "NotFound", "NotOwner", "PeerError", "Placement",
    "Protocol", "RankError", "Seat", "SeatTaken", "ShapeInfo", "Sink", "Snapshot", "State", "Step", "StepWords",
    "Store", "Stream", "System", "TensorInfo", "Timeout", "Uncovered", "Unreachable", "Unsupported",
    "Verdict", "View", "Watch", "WorldError", "device_count", "info", "launch", "memory_sizes", "version", "window_sizes"]
