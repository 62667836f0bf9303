# SPDX-License-Identifier: Apache-2.0
"""How the recovery pause depends on the number of ranks that are killed at once: a notebook in
cells (# %%), and a program:  sweep.py [--repeats N] [--most N] [--out FOLDER] [--resume].
"""

# %% Set up
from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

try:
    import matplotlib
except ImportError as error:  # before the runs are made
    sys.exit(f"sweep.py: {error}: the picture needs matplotlib (Debian: python3-matplotlib)")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import eep_lab  # noqa: E402

RANKS = 8
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--repeats", type=int, default=3, help="runs per number of killed ranks")
parser.add_argument("--most", type=int, default=4, help="most ranks killed at once")
parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/sweep"))
parser.add_argument("--resume", action="store_true", help="go on with the rows in FOLDER: runs "
                    "without a row, or with an error, are made")
arguments = parser.parse_args([] if "ipykernel" in sys.modules else None)


# %% What is done in each run: `number` ranks die at once, the survivors go on, the ranks come back
def kill_and_rejoin(run: eep_lab.Run, number: int) -> None:
    run.until(lambda status: status["tokens"] > 1000)  # all ranks have warmed up
    seats = run.kill(f"covered:{number}")
    run.wait("settled", timeout=30)
    run.rejoin(seats)
    run.wait("settled", timeout=60)


# %% Run the series
rows = eep_lab.sweep("killed", range(1, arguments.most + 1), is_option=False, drive=kill_and_rejoin,
                     repeats=arguments.repeats, out=arguments.out, resume=arguments.resume,
                     ranks=RANKS, slots=32, keep_busy=2 * RANKS, requests=1)
# The rows are in rows.csv there; the picture is drawn from them alone. A run that failed is made
# again with --resume (in a notebook: resume=True).


# %% Draw
def draw(rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 3.6))
    shown = [row for row in rows if row.get("pause_ms") is not None]
    axes.plot([row["killed"] for row in shown], [row["pause_ms"] for row in shown], "o",
              color="tab:blue", alpha=0.6)
    axes.set_xlabel(f"ranks killed at once, of {RANKS}")
    axes.set_ylabel("longest pause (ms)")
    axes.set_ylim(0, 1.15 * max((row["pause_ms"] for row in shown), default=1))
    axes.set_xticks(sorted({row["killed"] for row in rows}))
    axes.grid(axis="y", alpha=0.3)
    verdict = "all runs good" if all(row.get("good") for row in rows) else "NOT ALL RUNS GOOD"
    axes.set_title(f"Recovery pause ({verdict})")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


draw(rows, arguments.out / "sweep.png")
all_good = all(row.get("good") for row in rows)
print(f"{len(rows)} runs, all good: {all_good}; {arguments.out}/sweep.png")
if "ipykernel" not in sys.modules:
    sys.exit(0 if all_good else 1)
