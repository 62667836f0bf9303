#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Make the rows of the paper's figures again on this machine: those in experiments/results that
paper-figs/all_figures.py draws beside arXiv 2605.10670. It makes no rows of a timeline and none of a
restart: ./demo and restart.py do. About 50 minutes on two idle cores: an estimate, never measured.

usage: paper_rows.py [--out DIR] [--quick]

failed_ranks.py and model_check.py make 3 runs of each kind, where the kept rows have 2. Draws and
blocks are as many as in the kept rows. With --quick there is one run, or a tenth of the draws, of
each: about 15 minutes, estimated too. DIR then stands for experiments/results:
  paper-figs/throughput_kept.py --modelled DIR/paper-size/summary.csv --measured DIR/failed-ranks/runs.csv
Exit: 0 done, 1 a campaign was not.
"""

import argparse
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

HERE = os.path.dirname(os.path.abspath(__file__))


def campaigns(out, quick):
    """(folder, command)"""
    overhead = os.path.join(out, "bench-host-overhead.csv")
    return [
        ("paper-size", [os.path.join(HERE, "paper_size.py"), "--out", os.path.join(out, "paper-size"),
                        "--draws", "100" if quick else "1000"]),
        ("failed-ranks", [os.path.join(HERE, "failed_ranks.py"), "--out",
                          os.path.join(out, "failed-ranks"), "--runs", "1" if quick else "3"]),
        ("availability", [os.path.join(HERE, "fleets.py"), "--out", os.path.join(out, "availability"),
                          "--draws", "1000" if quick else "10000"]),
        ("model-check", [os.path.join(HERE, "model_check.py"), "--out", os.path.join(out, "model-check"),
                         "--runs", "1" if quick else "3"]),
        ("bench-host-overhead.csv", [os.path.join(common.ROOT, "build/experiments/eep-bench"), "--repeats",
                                     "6" if quick else "60", "--csv", overhead, "overhead"]),
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="DIR", default=os.path.join(common.ROOT, "out/paper"),
                        help="folder for the rows (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="few runs and draws")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    is_good = True
    for name, command in campaigns(options.out, options.quick):
        begin = time.monotonic()
        code = subprocess.run(command, check=False).returncode
        is_good &= code == 0
        print(f"{name}: {'done' if code == 0 else f'exit status {code}'}, "
              f"{(time.monotonic() - begin) / 60:.1f} minutes", flush=True)
    return 0 if is_good else 1


if __name__ == "__main__":
    common.finish(main, "paper_rows.py")
