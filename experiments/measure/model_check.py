#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The model of eep-plan beside measured runs of 8, 16 and 32 rank processes on this machine.

A quarter and a half of the ranks are killed at once. eep-plan is given the same shape and the same lost
ranks, and two rates that eep-bench-repair measures just before each run: what one process takes in,
and what two do at the same time, which stands for the memory and cores that all ranks share. Nothing
is fitted to the runs. Compared are the bytes that are restored inside the pause and how long that
takes (repair_ms).

Writes DIR/check.csv, a row per run. There is no bar: the error stands in the rows.
Exit: 0 done, 1 a run was not good, 2 it could not be measured.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

COLUMNS = ("run", "ranks", "failed", "seed", "killed", "rank_mbs", "host_mbs", "predicted_bytes",
           "measured_bytes", "predicted_ms", "measured_ms", "error_percent", "good", "foreign_share")
RANKS = (8, 16, 32)
LAYERS, EXPERTS, HIDDEN, INNER = 2, 64, 256, 768
EXPERT_BYTES = 3 * HIDDEN * INNER * 4
NO_LIMIT_MBS = 100000000  # of links that this machine does not have
KILL_S = 1.5


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=common.positive, default=3, metavar="N",
                        help="runs of each number of ranks and failures (default %(default)s)")
    common.add_common_options(parser, "out/model-check", has_ranks=False)
    return parser.parse_args()


def repair_rates(options, processes):
    """MB/s of so many eep-bench-repair at the same time: all bytes of each over its time."""
    command = [os.path.join(options.bin, "eep-bench-repair"), "--experts", "32", "--mb", "1", "--rounds", "9"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    texts = [process.communicate()[0] for process in running]
    rates = []
    for text in texts:
        found = re.findall(r"(\d+) bytes in \d+ experts +([0-9.]+) s", text)
        if not found:
            raise common.Failure(f"{' '.join(command)}: no rate in '{text.strip()[:80]}'")
        rates.append(sum(int(size) for size, _ in found) / sum(float(s) for _, s in found) / 1e6)
    return rates


def predict(options, ranks, slots, killed, rank_mbs, host_mbs):
    command = [os.path.join(options.bin, "eep-plan"), "--ranks", str(ranks), "--layers", str(LAYERS),
               "--experts", str(EXPERTS), "--slots", str(slots), "--lost", ",".join(map(str, killed)),
               "--expert-bytes", str(EXPERT_BYTES), "--in-mbs", str(rank_mbs), "--out-mbs", str(rank_mbs),
               "--pcie-mbs", str(NO_LIMIT_MBS), "--host-mbs", str(host_mbs), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise common.Failure(f"{' '.join(command)}: exit status {done.returncode}")
    pause = json.loads(done.stdout)["pause"]
    return (sum(int(pause[tier]["bytes"]) for tier in ("own_node_backup", "other_backup", "checkpoint")),
            pause["makespan_ms"])


def row_of(options, index, ranks, failed, seed):
    slots = 2 * EXPERTS // ranks
    killed = sorted(random.Random(seed * 1000 + failed).sample(range(ranks), failed))
    rank_mbs, host_mbs = round(repair_rates(options, 1)[0]), round(sum(repair_rates(options, 2)))
    predicted_bytes, predicted_ms = predict(options, ranks, slots, killed, rank_mbs, host_mbs)
    options.ranks = ranks
    run = common.run_eep(options, [
        "--layers", str(LAYERS), "--experts", str(EXPERTS), "--hidden", str(HIDDEN), "--inner", str(INNER),
        "--slots", str(slots), "--requests", "80", "--rate", "20", "--input", "4:8", "--output", "8:16",
        "--step-deadline-ms", "20000", "--expel-ms", "20000", "--drain-bound-ms", "20000", "--seed", str(seed),
        *(word for rank in killed for word in ("--kill", f"{rank}@{KILL_S}"))], f"{ranks}-{failed}-{index}")
    faults = run.summary["faults"]
    measured_ms = max(fault["repair_ms"] or 0 for fault in faults)
    return {"run": index, "ranks": ranks, "failed": failed, "seed": seed, "killed": " ".join(map(str, killed)),
            "rank_mbs": rank_mbs, "host_mbs": host_mbs, "predicted_bytes": predicted_bytes,
            "measured_bytes": max(fault["weights_bytes_in_pause"] for fault in faults),
            "predicted_ms": predicted_ms, "measured_ms": measured_ms,
            "error_percent": 100 * (predicted_ms / measured_ms - 1) if measured_ms else None,
            "good": int(bool(run.summary["good"])), "foreign_share": run.foreign_share}, run


def main():
    options = parse()
    rows = common.Rows(os.path.join(options.out, "check.csv"), COLUMNS)
    is_good = True
    for index in range(1, options.runs + 1):
        for ranks in RANKS:
            for failed in (ranks // 4, ranks // 2):
                row, run = row_of(options, index, ranks, failed, options.seed + index - 1)
                rows.begin(run.summary, options.note)
                rows.add(row)
                is_good &= bool(row["good"])
                print(f"{failed} of {ranks}: {row['predicted_bytes'] / 1e6:.1f} MB predicted, "
                      f"{row['measured_bytes'] / 1e6:.1f} measured; {row['predicted_ms']:.1f} ms predicted, "
                      f"{row['measured_ms']:.1f} measured", flush=True)
    rows.close()
    return 0 if is_good else 1


if __name__ == "__main__":
    common.finish(main, "model_check.py")
