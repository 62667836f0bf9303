#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A rank of a whole instance: tests/run/foreign_engine.py, which tells how it does.

    EEP_RANK=.. EEP_SIZE=.. EEP_STORE=.. host_engine.py LIBEEP

It prints JSON, a line each: {"ready": PID} when it has joined, then every 50 ms {"done": POSITIONS,
"epoch": E, "active": RANKS, "gap_ms": LONGEST TIME BETWEEN TWO POSITIONS SINCE THE LAST LINE,
"aborted": STEPS TO BE DONE AGAIN}, and {"end": STATUS}. Each result is checked; a wrong one ends it
with status 1.
"""
import json
import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../run"))
import foreign_engine  # noqa: E402


def say(**what):
    print(json.dumps(what), flush=True)


def main():
    rank, position, status = foreign_engine.Rank(), 0, foreign_engine.OK
    foreign_engine.check("eep_join", rank.context)
    say(ready=os.getpid())
    last = told = time.monotonic()
    gap = 0
    while status == foreign_engine.OK:
        done, status = rank.step(position)
        position += done
        now = time.monotonic()
        gap = max(gap, now - last)
        last = now if done else last
        if now - told > 0.05:
            say(done=position, epoch=rank.last.epoch, active=rank.last.num_active, gap_ms=round(gap * 1000),
                aborted=rank.aborted)
            told, gap = now, now - last
        time.sleep(0.002)
    foreign_engine.eep.eep_close(rank.context)
    say(end=status)


if __name__ == "__main__":
    main()
