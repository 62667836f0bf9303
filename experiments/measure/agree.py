#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Agreement at many ranks: how long survivors of a SIGKILL take to agree on the next view.

Each round kills one rank after the other in one run, and before it measures the floor of this machine
with eep-bench-wake: as many processes are woken once, and each answers once. Agreement counts from
the moment in which the fault is known until the view is committed.

Bar: the median over all kills <= --floor-bar times the median floor, and no wrong or lost token.

Writes DIR/agree.csv, a row per kill.
Exit: 0 all bars met, 1 one missed, 2 it could not be measured.
"""

import argparse
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

COLUMNS = ("round", "ranks", "fault", "rank", "detect_ms", "agree_ms", "repair_ms", "rerun_ms",
           "pause_ms", "floor_ms", "foreign_share")
FLOOR_ROUNDS = 30


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=common.positive, default=10, metavar="N",
                        help="kills of a round (default %(default)s)")
    parser.add_argument("--rounds", type=common.positive, default=3, metavar="N",
                        help="rounds (default %(default)s)")
    parser.add_argument("--kill-every", type=common.positive, default=2000, metavar="MS",
                        help="least time between two kills (default %(default)s)")
    parser.add_argument("--floor-bar", type=float, default=3.0, metavar="F",
                        help="agreement over the floor, at most (default %(default)g)")
    common.add_common_options(parser, "out/agree")
    parser.set_defaults(ranks=64)
    return parser.parse_args()


def floor_ms(options):
    program = os.path.join(options.bin, "eep-bench-wake")
    command = [program, "--ranks", str(options.ranks), "--rounds", str(FLOOR_ROUNDS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    found = re.search(r"p50 ([0-9.]+) p99", done.stdout)
    if done.returncode != 0 or not found:
        raise common.Failure(f"{' '.join(command)}: no floor")
    return float(found.group(1))


def main():
    options = parse()
    rows, floors, spoilt = [], [], []
    file = common.Rows(os.path.join(options.out, "agree.csv"), COLUMNS)
    for number in range(1, options.rounds + 1):
        floors.append(floor_ms(options))
        run = common.run_eep(options, ["--kills", str(options.kills), "--kill-every",
                                       str(options.kill_every), "--seed",
                                       str(options.seed + number - 1)], f"agree-{number}")
        file.begin(run.summary, options.note)
        for index, fault in enumerate(run.summary["faults"], 1):
            row = {name: fault.get(name) for name in COLUMNS}
            row.update(round=number, ranks=options.ranks, fault=index, floor_ms=floors[-1],
                       foreign_share=run.foreign_share)
            if row["agree_ms"] is not None:
                rows.append(row)
                file.add(row)
        wrong = common.faults_of_run(run)
        if wrong:
            spoilt.append(f"round {number}: {wrong}")
        print(f"round {number}: agree "
              f"{common.describe([row['agree_ms'] for row in rows if row['round'] == number])}; "
              f"floor {floors[-1]:.2f} ms", flush=True)
    file.close()
    if not rows:
        raise common.Failure("no fault has a measured agreement")
    print()
    for name in ("detect_ms", "agree_ms", "rerun_ms", "pause_ms"):
        print(f"  {name:<10} {common.describe([row[name] for row in rows])}")
    agree = common.quantile([row["agree_ms"] for row in rows], 50)
    floor = common.quantile(floors, 50)
    good = all([
        common.verdict(f"agreement of {options.ranks} ranks", agree <= options.floor_bar * floor,
                       f"median {agree:.2f} ms <= {options.floor_bar:g} x {floor:.2f} ms"),
        common.verdict("runs without a wrong or lost token", not spoilt,
                       "; ".join(spoilt) or f"all {options.rounds}"),
    ])
    print(f"rows: {options.out}/agree.csv")
    return 0 if good else 1


if __name__ == "__main__":
    common.finish(main, "agree.py")
