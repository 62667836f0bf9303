#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What background moves of weights cost the steps beside which they run.

Every round has three runs with the same load and the same kill. In the first, redundancy is restored
behind live traffic; its window reaches from the first flip of that to the last. In the other two
nothing is restored (--background-rate 0); instead a dummy burns the CPU time of the copies, and the
window begins as long after the kill and has the same length. The CPU time of the copies is their
bytes times CPU_S_PER_GB, which eep-bench-repair prints for shared memory, both sides together.
Compared is the p99 of the steps that begin in the window: moves over dummy is the figure, dummy over
dummy (A/A) is what the same thing twice gives.

Bar: the upper end of the 95 % interval (bootstrapped over rounds with a fixed seed) of the geometric
mean of moves / dummy <= 1.25, and no wrong or lost token.

Writes DIR/moves.csv, a row per window.
Exit: 0 all bars met, 1 one missed, 2 it could not be measured.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import beside
import common

COLUMNS = ("round", "kind", "seed", "begin_ms", "length_ms", "burn_ms", "bytes",
           *beside.STATISTICS, "good", "foreign_share")
SEAT, KILL_MS, END_MS = 3, 1500, 9000
CPU_S_PER_GB = 0.5
# Large experts and few tokens: a window has some 200 short steps, so p99 is not the longest of 50.
SHAPE = ["--layers", "6", "--experts", "96", "--slots", "64", "--inner", "384", "--topk", "2",
         "--tokens-per-rank", "4"]
BAR = 1.25


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=common.positive, default=10, metavar="N",
                        help="rounds of three runs (default %(default)s)")
    parser.add_argument("--keep-busy", type=common.positive, default=12, metavar="N",
                        help="requests outstanding at any time (default %(default)s)")
    parser.add_argument("--latency", type=common.count, default=25, metavar="PERCENT",
                        help="--background-latency of the moves (default %(default)s)")
    common.add_common_options(parser, "out/moves")
    parser.set_defaults(ranks=4)
    return parser.parse_args()


def run(options, kind, index, seed, extra):
    return common.run_eep(options, [*SHAPE, "--kill", f"{SEAT}@{KILL_MS}ms", "--requests", "1",
                                    "--keep-busy", str(options.keep_busy), "--seed", str(seed), *extra],
                          f"{kind}-{index}")


def window_row(of_run, begin, length, cost):
    """Statistics of the steps in a window (ms), beside what moved there, in bytes."""
    row = beside.statistics(of_run, begin, length, SEAT)
    row.update(burn_ms=cost / 1e6 * CPU_S_PER_GB, bytes=cost)
    return row


def moves_row(options, index, seed):
    # The dummy at the end only keeps the load running until then.
    moved = run(options, "moves", index, seed, ["--background-latency", str(options.latency),
                                                "--dummy-burn", f"1ms@{END_MS}ms"])
    times = [event["time_ms"] for event in moved.events
             if event["kind"] in ("rebalancing", "rebalanced", "flipped") and event["time_ms"] > KILL_MS]
    if not times or not moved.summary["weights_bytes_background"]:
        raise common.Failure(f"round {index}: nothing was moved behind traffic")
    return window_row(moved, min(times), max(times) - min(times),
                      moved.summary["weights_bytes_background"]), moved


def dummy_row(options, kind, index, seed, like):
    burn = f"{max(like['burn_ms'], 1):.0f}ms@{like['begin_ms']:.0f}ms"
    burnt = run(options, kind, index, seed, ["--background-rate", "0", "--dummy-burn", burn,
                                             "--dummy-burn", f"1ms@{END_MS}ms"])
    return window_row(burnt, like["begin_ms"], like["length_ms"], like["bytes"])


def judge(rounds):
    (ratio, low, high), n = beside.tell(rounds, "moves", "MB moved", lambda row: row["bytes"] / 1e6)
    answers = [common.verdict("p99 moves / dummy", high <= BAR,
                              f"{ratio:.3f}, 95 % interval {low:.3f} to {high:.3f} <= {BAR}, n {n}"),
               beside.verdict_on_tokens(rounds)]
    return all(answers)


def main():
    options = parse()
    good = judge(beside.measure(options, "moves", COLUMNS, moves_row, dummy_row))
    print(f"rows: {options.out}/moves.csv")
    return 0 if good else 1


if __name__ == "__main__":
    common.finish(main, "moves.py")
