#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Is the recovery pause of this build the other build's? Runs of both are interleaved.

Every round has four runs with the same seed and the same kills: each build twice. Over four rounds
each run stands at each place, and right behind each other one, once. Compared are the medians of a
round's pauses: now over before is the figure, again over the first of the same build (A/A) is what
the same thing twice gives.

Bar: the upper end of the 95 % interval of now / before is at most 1 + the half-width of the A/A
interval + what --allow says; no token of any run is wrong or lost. The intervals are bootstrapped
over rounds with a fixed seed.

Writes DIR/pause-pair.csv, a row per fault.
Exit: 0 the bar is met, 1 it is missed, 2 it could not be measured.
"""

import argparse
import copy
import math
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

SIDES = ("before", "now", "before-again", "now-again")
PARTS = ("detect_ms", "agree_ms", "repair_ms", "rerun_ms")
COLUMNS = ("round", "side", "commit", "seed", "fault", "rank", *PARTS, "pause_ms", "foreign_share")
ORDERS = ((0, 1, 3, 2), (1, 2, 0, 3), (2, 3, 1, 0), (3, 0, 2, 1))  # Williams 1949
RESAMPLES = 10000


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, metavar="DIR", help="folder of the other eep-run")
    parser.add_argument("--rounds", type=common.positive, default=8, metavar="N",
                        help="rounds of four runs (default %(default)s)")
    parser.add_argument("--kills", type=common.positive, default=5, metavar="N",
                        help="kills of a run (default %(default)s)")
    parser.add_argument("--kill-every", type=common.positive, default=700, metavar="MS",
                        help="least time between two kills (default %(default)s)")
    parser.add_argument("--allow", type=float, default=0.0, metavar="SHARE",
                        help="by how much the pause may have grown (default %(default)s)")
    common.add_common_options(parser, "out/pause-pair")
    return parser.parse_args()


def run_side(options, side, index, seed):
    of_side = copy.copy(options)
    if side.startswith("before"):
        of_side.bin = options.before
    return common.run_eep(of_side, ["--kills", str(options.kills), "--kill-every",
                                    str(options.kill_every), "--seed", str(seed)],
                          f"{side}-{index}")


def interval(values):
    """Geometric mean and its 95 % interval."""
    logs = [math.log(value) for value in values]
    chance = random.Random(1)
    means = sorted(sum(chance.choices(logs, k=len(logs))) / len(logs) for _ in range(RESAMPLES))
    ends = [math.exp(means[int(RESAMPLES * share)]) for share in (0.025, 0.975)]
    return math.exp(sum(logs) / len(logs)), ends[0], ends[1]


def judge(medians, pauses, options, spoilt):
    ratios = [(m["now"] * m["now-again"] / m["before"] / m["before-again"]) ** 0.5
              for m in medians]
    same = [(m["now-again"] / m["now"]) ** 0.5 * (m["before-again"] / m["before"]) ** 0.5
            for m in medians]
    for name in ("before", "now"):
        print(f"  pause {name:<7} {common.describe(pauses[name])}")
    mean, low, high = interval(ratios)
    same_mean, same_low, same_high = interval(same)
    half = (same_high - same_low) / 2
    print(f"  now / before   {mean:.3f}, 95 % interval {low:.3f} to {high:.3f}, n {len(ratios)}")
    print(f"  the same twice {same_mean:.3f}, {same_low:.3f} to {same_high:.3f}")
    bar = 1 + half + options.allow
    return all([common.verdict("pause as before", high <= bar, f"{high:.3f} <= {bar:.3f}"),
                common.verdict("runs without a wrong or lost token", not spoilt,
                               "; ".join(spoilt) or "all")])


def main():
    options = parse()
    medians, spoilt = [], []
    file = common.Rows(os.path.join(options.out, "pause-pair.csv"), COLUMNS)
    pauses = {"before": [], "now": []}
    for index in range(1, options.rounds + 1):
        seed = options.seed + index - 1
        found = {}
        for place in ORDERS[index % len(ORDERS)]:
            side = SIDES[place]
            run = run_side(options, side, index, seed)
            file.begin(run.summary, options.note)
            wrong = common.faults_of_run(run)
            if wrong:
                spoilt.append(f"{side} {index} (seed {seed}): {wrong}")
            for number, fault in enumerate(run.summary["faults"], 1):
                file.add({**{name: fault.get(name) for name in COLUMNS}, "round": index,
                          "side": side, "commit": run.summary["commit"], "seed": seed,
                          "fault": number, "foreign_share": run.foreign_share})
            measured = [fault["pause_ms"] for fault in run.summary["faults"]
                        if fault.get("pause_ms") is not None]
            if not measured:
                raise common.Failure(f"{side} {index}: no fault has a measured pause")
            found[side] = common.quantile(measured, 50)
            pauses[side.split("-")[0]] += measured
        medians.append(found)
        print(f"round {index}: " + "  ".join(f"{side} {found[side]:.1f}" for side in SIDES),
              flush=True)
    file.close()
    good = judge(medians, pauses, options, spoilt)
    print(f"rows: {options.out}/pause-pair.csv")
    return 0 if good else 1


if __name__ == "__main__":
    common.finish(main, "pause_pair.py")
