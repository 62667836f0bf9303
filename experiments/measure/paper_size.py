#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What losses cost at the size of arXiv 2605.10670, modelled by `eep-plan --config paper`.

1, 2, 4, 8 and 16 of 32 ranks are lost: any ranks, neighbours, or one node after the other. For each,
--draws losses by chance are planned, with experts alike and with experts after Zipf's law (0.5).
Nothing is measured here but the plans of libeep's own planner: seconds are those of the links.

Writes DIR/draws-LAW.csv, a row per draw, DIR/summary.csv, a row per law, kind and number, and
DIR/plan-K.json, one loss of K ranks with all its links and constants.
Exit: 0 done, 2 it could not be done. There is no bar.
"""

import argparse
import csv
import io
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

FAILED = (1, 2, 4, 8, 16)
HOW = ("random", "adjacent", "nodes")
LAWS = ("even", "z0.5")
SOURCES = ("unchanged", "live_replica", "own_node_backup", "other_backup", "checkpoint")
SECONDS = ("pause_s", "behind_s", "anew_s")
BYTES = ("pause_bytes", "behind_bytes")
MEANS = ("uncovered", "balance_before", "balance_paused", "balance_rest", "anew_balance",
         "modelled_pause_ms", "modelled_silent_ms", "throughput_kept")
COLUMNS = ("loads", "how", "failed", "draws", "refused",
           *(f"{name}_{what}" for name in BYTES + SECONDS for what in ("mean", "p50", "p99", "max")),
           *MEANS, *(f"{name}_percent" for name in SOURCES),
           *(f"anew_{name}_percent" for name in SOURCES))


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=common.positive, default=1000, metavar="N",
                        help="losses of each kind and number (default %(default)s)")
    common.add_common_options(parser, "out/paper-size", has_ranks=False)
    return parser.parse_args()


def draw(options, law, how, failed):
    """The rows of eep-plan, as texts. A loss that takes all backups of an expert reads a checkpoint."""
    command = [os.path.join(options.bin, "eep-plan"), "--config", "paper", "--loads", law, "--checkpoint",
               "--failed", str(failed), "--how", how, "--draws", str(options.draws), "--seed",
               str(options.seed)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise common.Failure(f"{' '.join(command)}: exit status {done.returncode}")
    return list(csv.DictReader(io.StringIO(done.stdout)))


def keep_plans(options):
    for failed in FAILED:
        command = [os.path.join(options.bin, "eep-plan"), "--config", "paper", "--failed", str(failed),
                   "--seed", str(options.seed), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise common.Failure(f"{' '.join(command)}: exit status {done.returncode}")
        with open(os.path.join(options.out, f"plan-{failed}.json"), "w", encoding="utf-8") as file:
            file.write(done.stdout)


def percents(rows, prefix):
    """Of all slots of all draws, by source."""
    sums = {name: sum(int(row[prefix + name]) for row in rows) for name in SOURCES}
    whole = sum(sums.values()) or 1
    return {f"{prefix}{name}_percent": 100.0 * sums[name] / whole for name in SOURCES}


def summary_of(law, how, failed, rows):
    good = [row for row in rows if row["covered"] == "1"]
    if not good:
        raise common.Failure(f"{law}, {failed} {how}: no draw could be repaired")
    summary = {"loads": law, "how": how, "failed": failed, "draws": len(rows),
               "refused": len(rows) - len(good), **percents(good, ""), **percents(good, "anew_")}
    for name in BYTES + SECONDS:
        values = [float(row[name]) for row in good]
        digits = 0 if name in BYTES else 6
        for what, value in (("mean", sum(values) / len(values)), ("p50", common.quantile(values, 50)),
                            ("p99", common.quantile(values, 99)), ("max", max(values))):
            summary[f"{name}_{what}"] = f"{value:.{digits}f}"
    for name in MEANS:
        summary[name] = f"{sum(float(row[name]) for row in good) / len(good):.4f}"
    return summary


def main():
    options = parse()
    summary = common.Rows(os.path.join(options.out, "summary.csv"), COLUMNS)
    head = {"versions": {}, "commit": common.commit()}
    note = " ".join(("modelled, not measured.", options.note)).strip()
    for law in LAWS:
        kept = None
        for how in HOW:
            for failed in FAILED:
                rows = draw(options, law, how, failed)
                if kept is None:
                    kept = common.Rows(os.path.join(options.out, f"draws-{law}.csv"), tuple(rows[0]))
                    kept.begin(head, note)
                for row in rows:
                    kept.add(row)
                summary.begin(head, note)
                summary.add(summary_of(law, how, failed, rows))
                print(f"{law} {how} {failed}: done", flush=True)
        kept.close()
    summary.close()
    keep_plans(options)
    return 0


if __name__ == "__main__":
    common.finish(main, "paper_size.py")
