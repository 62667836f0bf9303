#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a step costs from Python beside the same step from C.

One rank of the package eep is alone in its instance. Its graph has a dispatch and a combine, with no
kernel of an engine between. Blocks of steps are run in turns, in one thread, over the same context,
stream and graph:

    c, c2       begin, replay, end in a loop of C (native/handles.c), twice: the A/A
    python      `with context.step(): graph.replay()`
    filled      the same, with b.fill(...) of --tokens tokens before the replay

All threads of the process share one processor, the first that it may use. On several, the stream's
thread is woken on another processor in some blocks and not in others, which costs 1 to 60 us there,
from C as from Python. --any-cpu leaves it so.

Bar: p50 over all steps of python <= that of c + 50 us.

Writes DIR/steps.csv, a row per block. Set PYTHONPATH to a folder that bindings/python/eep_build.py
made (--tree), or install the wheel.
Exit: 0 the bar is met, 1 it is missed, 2 it could not be measured.
"""

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
import numpy as np

BAR_US = 50
KINDS = ("c", "python", "c2", "filled")
COLUMNS = ("block", "kind", "steps", "min_us", "p50_us", "p99_us", "max_us", "cpu_us", "foreign_share")
HIDDEN, EXPERTS, TOP_K = 128, 8, 2


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=common.positive, default=40, metavar="N",
                        help="blocks of each kind (default %(default)s)")
    parser.add_argument("--steps", type=common.positive, default=250, metavar="N",
                        help="steps of a block (default %(default)s)")
    parser.add_argument("--tokens", type=common.positive, default=16, metavar="N",
                        help="tokens of a step (default %(default)s)")
    parser.add_argument("--any-cpu", action="store_true",
                        help="do not bind the threads to one processor")
    parser.add_argument("--out", metavar="DIR", default="out/python", help="default %(default)s")
    parser.add_argument("--note", default="", metavar="TEXT", help="a remark for the comment lines")
    return parser.parse_args()


class Rank:
    def __init__(self, eep, store, tokens):
        from eep.loading import ffi, lib
        self.lib, self.ffi = lib, ffi
        self.context = context = eep.Context(store, rank=0, num_ranks=1, num_experts=EXPERTS,
                                             top_k=TOP_K, hidden=HIDDEN,
                                             num_max_tokens_per_rank=tokens)
        for slot in range(context.num_slots):
            context.slot_alloc(0, slot, [(1,)])
        self.buffers = b = context.buffers()
        with context.capture() as self.graph:
            context.dispatch(0, **b.dispatch)
            context.combine(0, **{**b.combine, "rows": b.rows})
        context.join(10)
        random = np.random.default_rng(1)
        self.x = random.standard_normal((tokens, HIDDEN), np.float32)
        self.topk = np.array([random.choice(EXPERTS, TOP_K, replace=False) for _ in range(tokens)])
        self.shares = np.full((tokens, TOP_K), 0.5, np.float32)
        b.fill(self.x, self.topk, self.shares)

    def in_c(self, num):
        ns = self.ffi.new("uint64_t[]", num)
        status = self.lib.eepy_loop(self.context._handle, self.graph._handle,
                                    self.context.stream._handle, num, ns)
        if status != 0:
            raise common.Failure(f"the loop of C ended with status {status}")
        return list(ns)

    def in_python(self, num):
        context, graph, found = self.context, self.graph, []
        now = time.monotonic_ns
        for _ in range(num):
            begin = now()
            with context.step():
                graph.replay()
            found.append(now() - begin)
        return found

    def filled(self, num):
        context, graph, b, found = self.context, self.graph, self.buffers, []
        now = time.monotonic_ns
        for _ in range(num):
            begin = now()
            with context.step():
                b.fill(self.x, self.topk, self.shares)
                graph.replay()
            found.append(now() - begin)
        return found

    def block(self, kind, num):
        return {"c": self.in_c, "c2": self.in_c, "python": self.in_python,
                "filled": self.filled}[kind](num)


def main():
    options = parse()
    try:
        import eep
    except ImportError as error:
        raise common.Failure(f"no package eep: {error}") from error
    if not options.any_cpu:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = common.Rows(os.path.join(options.out, "steps.csv"), COLUMNS)
    rows.begin({"versions": {"eep": eep.version(), "numpy": np.__version__},
                "commit": common.commit()}, options.note)
    steps = {kind: [] for kind in KINDS}
    with eep.Store() as store:
        rank = Rank(eep, store, options.tokens)
        for kind in KINDS:
            rank.block(kind, options.steps)  # warm-up
        for block in range(options.blocks):
            for at in range(len(KINDS)):
                kind = KINDS[(at + block) % len(KINDS)]
                foreign, cpu = common.ForeignLoad(), time.thread_time_ns()
                ns = rank.block(kind, options.steps)
                cpu = (time.thread_time_ns() - cpu) / len(ns) / 1e3
                us = [one / 1e3 for one in ns]
                steps[kind] += us
                rows.add({"block": block, "kind": kind, "steps": len(us), "min_us": min(us),
                          "p50_us": common.quantile(us, 50), "p99_us": common.quantile(us, 99),
                          "max_us": max(us), "cpu_us": cpu, "foreign_share": foreign.share()})
        if not np.array_equal(rank.buffers.out.numpy(), rank.x):
            raise common.Failure("a wrong result")
        rank.context.close()
    rows.close()
    for kind in KINDS:
        print(f"{kind:7} {common.describe(steps[kind], 'us')}")
    more = common.quantile(steps["python"], 50) - common.quantile(steps["c"], 50)
    noise = common.quantile(steps["c2"], 50) - common.quantile(steps["c"], 50)
    return 0 if common.verdict("python beside c", more <= BAR_US,
                               f"p50 {more:+.1f} us (A/A {noise:+.1f}), at most {BAR_US}") else 1


if __name__ == "__main__":
    common.finish(main, "python_steps")
