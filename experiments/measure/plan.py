#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the planner of a fault needs, and how near its plans are to what no plan can beat.

For each instance and loss `eep-plan` plans --times times on one thread. A row has the least CPU time,
the least time of hashing the same document, the makespan of the plan and the lower bound.

Bars: the pause is planned within 5 ms at 32 ranks x 58 layers, and 100 ms at 320 x 61; makespans are
at most 1.2 times the bound.

Writes DIR/plan.csv, a row per instance and loss.
Exit: 0 all bars met, 1 one missed, 2 it could not be measured.
"""

import argparse
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

COLUMNS = ("ranks", "nodes", "layers", "slots", "backups", "checkpoint", "rates", "lost",
           "own_node_backup_fills", "other_backup_fills", "checkpoint_fills", "given_up", "makespan_ms", "bound_ms", "ratio", "plan_ms",
           "hash_ms", "plan_over_hash")
# ranks, nodes, layers, slots, bar in ms
SHAPES = ((32, 4, 58, 16, 5), (32, 4, 58, 17, 5), (31, 4, 58, 16, 5), (96, 12, 58, 6, 30),
          (320, 40, 61, 2, 100))
LEAST_MS = 0.001  # of a makespan: below there is nothing to fill
RATIO_BAR = 1.2


def losses(ranks):
    """One rank, neighbours, the ranks of a node, every other one, half of them by chance."""
    every_other = ",".join(str(rank) for rank in range(0, ranks, 2))
    return (("--lost", "3"), ("--lost", "4-7"), ("--lost", "8-15"), ("--lost", every_other),
            ("--failed", str(ranks // 2)))


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=common.positive, default=30, metavar="N",
                        help="plans of each instance (default %(default)s)")
    common.add_common_options(parser, "out/planner")
    return parser.parse_args()


def plan(options, shape, loss, backups, rates):
    """A row; None where experts cannot be restored, which takes no time worth a row."""
    ranks, nodes, layers, slots, _ = shape
    command = [os.path.join(options.bin, "eep-plan"), "--ranks", str(ranks), "--nodes",
               str(nodes), "--layers", str(layers), "--slots", str(slots), "--backups", str(backups),
               "--rates", rates, "--times", str(options.times), "--checkpoint", *loss, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise common.Failure(f"{' '.join(command)}: exit status {done.returncode}")
    report = json.loads(done.stdout)
    pause, time = report["pause"], report["time"]
    if not pause["covered"]:
        return None
    bound = pause["bound_ms"]
    return {"ranks": ranks, "nodes": nodes, "layers": layers, "slots": slots, "backups": backups,
            "checkpoint": 1, "rates": rates, "lost": len(report["instance"]["lost"]),
            **{f"{source}_fills": pause[source]["fills"]
               for source in ("own_node_backup", "other_backup", "checkpoint")},
            "given_up": pause["replicas_given_up"],
            "makespan_ms": pause["makespan_ms"], "bound_ms": bound,
            "ratio": pause["makespan_ms"] / bound if bound > LEAST_MS else 1.0,
            "plan_ms": time["plan_ms"], "hash_ms": time["hash_ms"],
            "plan_over_hash": time["plan_ms"] / time["hash_ms"]}


def main():
    options = parse()
    rows = common.Rows(os.path.join(options.out, "plan.csv"), COLUMNS)
    is_good = True
    for shape in SHAPES:
        slowest, farthest = 0.0, 1.0
        for loss in losses(shape[0]):
            for backups, rates in ((1, "default"), (2, "default"), (2, "random")):
                row = plan(options, shape, loss, backups, rates)
                if row is None:
                    continue
                rows.begin({"versions": {}, "commit": common.commit()}, options.note)
                rows.add(row)
                slowest = max(slowest, row["plan_ms"])
                farthest = max(farthest, row["ratio"])
        name = f"{shape[0]} ranks x {shape[2]} layers x {shape[3]} slots"
        is_good &= common.verdict(f"{name}: time of the pause's plan", slowest <= shape[4],
                                  f"at most {slowest:.2f} ms, bar {shape[4]} ms")
        is_good &= common.verdict(f"{name}: makespan over the bound", farthest <= RATIO_BAR,
                                  f"at most {farthest:.3f}, bar {RATIO_BAR}")
    rows.close()
    return 0 if is_good else 1


if __name__ == "__main__":
    common.finish(main, "plan.py")
