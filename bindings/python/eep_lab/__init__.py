# SPDX-License-Identifier: Apache-2.0
"""Run and control eep-run from Python: start an instance, kill and rejoin its ranks while it
serves, ask how it is, and read what came of it. The standard library is all it needs.

    from eep_lab import Run

    with Run(ranks=4, slots=32, keep_busy=8) as run:
        run.kill(3)
        run.wait("settled", timeout=10)
        run.rejoin(3)
        run.wait("settled", timeout=10)
        summary = run.finish()
    print(summary["good"], summary["faults"][0]["pause_ms"])

The words (rank, generation, epoch, settled) are those of docs/CONTROL.md and docs/SUMMARY.md. A Run
is for one thread; its event streams have connections of their own and may be read from others.
"""

from .connection import EepError, EventStream, Refused, WaitTimeout
from .run import Run, find_eep_run
from .series import pauses_ms, sweep

__all__ = ["EepError", "Refused", "WaitTimeout", "EventStream", "Run", "find_eep_run", "pauses_ms",
           "sweep"]
