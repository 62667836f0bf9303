#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How fast rows go over the network, beside the stream of ucx_perftest.

Each round runs eep-bench-mpi --network with two ranks, over TCP and over UCX, and ucx_perftest
between two processes, all on the loopback interface, one after the other. The rate of rows is that
of one dispatch: the bytes of the rows that go to the other rank, in both directions, over the span
from the first rank's begin to the last one's end. That includes routing, copies into rings, and
placing. ucx_perftest sends one buffer again and again in one direction. Its rate is the better one
of its two tests. No bar: the share is shown.

ucx_perftest is in Debian's package ucx-utils, which is not needed otherwise.

Exit: 0 measured, 2 it could not be measured.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bulk_rate
import common

COLUMNS = ("round", "place", "side", "mb_per_s", "mpi_over_libeep", "mpi_over_libeep_low", "foreign_share")
ROWS = {"rows-tcp": [], "rows-ucx": ["--ucx"]}
TESTS = ("tag_bw", "ucp_am_bw")
SIDES = (*ROWS, *TESTS)


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=common.positive, default=5, metavar="N",
                        help="rounds (default %(default)s)")
    parser.add_argument("--blocks", type=common.positive, default=20, metavar="N",
                        help="blocks of eep-bench-mpi (default %(default)s)")
    parser.add_argument("--perftest", metavar="FILE", default=shutil.which("ucx_perftest"),
                        help="ucx_perftest (default: the one in PATH)")
    common.add_common_options(parser, "out/rows-rate", has_ranks=False)
    options = parser.parse_args()
    if not options.perftest:
        raise common.Failure("ucx_perftest is not there: it is in Debian's package ucx-utils")
    return options


def rows_rate(options, arguments):
    """MB/s of a dispatch, and MPI's time over libeep's with its lower end."""
    file = os.path.join(options.out, "bench.csv")
    done = subprocess.run([os.path.join(options.bin, "eep-bench-mpi"), "--network", *arguments, "--ranks", "2",
                           "--blocks", str(options.blocks), "--csv", file], stdout=subprocess.DEVNULL,
                          timeout=1800, check=False)
    if done.returncode not in (0, 3):
        raise common.Failure(f"eep-bench-mpi: exit {done.returncode}")
    with open(file, encoding="utf-8") as lines:
        found = {row["metric"]: row for row in csv.DictReader(line for line in lines if line[0] != "#")}
    os.unlink(file)
    ratio = found["mpi_over_libeep"]
    return (float(found["dispatch_far_bytes"]["value"]) / float(found["dispatch_span"]["value"]),
            float(ratio["value"]), float(ratio["low"]))


def measure(options, side):
    if side in ROWS:
        return rows_rate(options, ROWS[side])
    return bulk_rate.perftest_rate(options, side, "tcp"), 0.0, 0.0


def show(rows):
    medians = {}
    for side in SIDES:
        rates = [row["mb_per_s"] for row in rows if row["side"] == side]
        medians[side] = common.quantile(rates, 50)
        print(f"{side:10} {common.describe(rates, 'MB/s')}")
    test = max(TESTS, key=medians.get)
    for side in ROWS:
        low = common.quantile([row["mpi_over_libeep_low"] for row in rows if row["side"] == side], 50)
        print(f"{side} / {test}: {medians[side] / medians[test]:.3f}; MPI over libeep, lower end: {low:.2f}")


def main():
    options = parse()
    os.makedirs(options.out, exist_ok=True)
    rows, file = [], common.Rows(os.path.join(options.out, "rows-rate.csv"), COLUMNS)
    for number in range(options.rounds):
        order = [SIDES[(place + number) % len(SIDES)] for place in range(len(SIDES))]
        for place, side in enumerate(order):
            meter = common.ForeignLoad()
            rate, ratio, low = measure(options, side)
            file.begin(bulk_rate.versions(options), options.note)
            rows.append({"round": number + 1, "place": place, "side": side, "mb_per_s": rate, "mpi_over_libeep": ratio,
                         "mpi_over_libeep_low": low, "foreign_share": meter.share()})
            file.add(rows[-1])
        print(f"round {number + 1}: " + "  ".join(
            f"{row['side']} {row['mb_per_s']:.0f}" for row in rows[-len(SIDES):]) + " MB/s", flush=True)
    file.close()
    show(rows)
    print(f"rows: {options.out}/rows-rate.csv")
    return 0


if __name__ == "__main__":
    common.finish(main, "rows_rate.py")
