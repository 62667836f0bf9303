#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draw every figure from kept rows, one after the other. Takes about half a minute.

usage: all_figures.py [--out DIR] [--only NAME]...

Each is also drawn by its own script: FIGURES has the command. experiments/README.md says how the rows
are made, and experiments/measure/paper_rows.py makes those of the paper's figures again.
"""

import argparse
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
RESULTS = "experiments/results"
# name: script and arguments; paths from the root of the checkout
FIGURES = {
    "timeline": ("timeline.py", f"{RESULTS}/demo"),
    "restart": ("timeline.py", f"{RESULTS}/restart/demo-elastic", "--beside",
                f"{RESULTS}/restart/demo-restart"),
    "host-loss": ("timeline.py", f"{RESULTS}/host-loss"),
    "pause-parts": ("pause_parts.py",),
    "source-mix": ("source_mix.py",),
    "throughput-kept": ("throughput_kept.py",),
    "reintegration": ("reintegration.py",),
    "static-overhead": ("static_overhead.py",),
    "time-to-95": ("time_to_95.py",),
    "predicted": ("predicted.py",),
    "plan-1": ("plan_picture.py", "--plan", f"{RESULTS}/paper-size/plan-1.json"),
    "plan-16": ("plan_picture.py", "--plan", f"{RESULTS}/paper-size/plan-16.json"),
    "pauses": ("pauses.py", f"{RESULTS}/pause.csv"),
    "detection": ("detection.py", f"{RESULTS}/detect.csv"),
    "redundancy": ("redundancy.py", f"{RESULTS}/redundancy.csv"),
    "wide-hosts": ("wide_hosts.py", f"{RESULTS}/wide-hosts.csv"),
    "availability": ("availability.py", f"{RESULTS}/availability/availability.csv"),
}


def draw(name, out):
    """True: the picture is there."""
    script, *arguments = FIGURES[name]
    picture = os.path.join(out, f"{name}.png")
    done = subprocess.run([sys.executable, "-B", os.path.join(HERE, script), *arguments, "--out", picture],
                          cwd=ROOT, check=False)
    print(f"{'drawn ' if done.returncode == 0 else 'FAILED'}  {picture}", flush=True)
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description="Draw every figure from kept rows.")
    parser.add_argument("--out", metavar="DIR", default=os.path.join(ROOT, "out/figures"),
                        help="folder for the pictures (default: out/figures of this checkout)")
    parser.add_argument("--only", metavar="NAME", action="append", choices=sorted(FIGURES),
                        help=f"one of: {' '.join(sorted(FIGURES))}; may be repeated")
    arguments = parser.parse_args()
    out = os.path.abspath(arguments.out)
    try:
        os.makedirs(out, exist_ok=True)
    except OSError as error:
        print(f"all_figures.py: {out}: {error.strerror}", file=sys.stderr)
        return 2
    answers = [draw(name, out) for name in arguments.only or FIGURES]
    return 0 if all(answers) else 1


if __name__ == "__main__":
    sys.exit(main())
