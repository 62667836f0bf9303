# SPDX-License-Identifier: Apache-2.0
"""What the figures share: reading kept rows, quantiles, one look, and the command line."""

import argparse
import csv
import os
import sys

try:
    import matplotlib
except ImportError as error:
    sys.exit(f"{os.path.basename(sys.argv[0])}: {error}: the figures need matplotlib "
             "(Debian: python3-matplotlib)")

matplotlib.use("Agg")
import matplotlib.pyplot as plt

INK, GREY = "#222222", "#8C8C8C"


class BadInput(Exception):
    """Rows that are missing or not what they should be."""


def read_rows(path, names, row_of):
    """`row_of` of each row with the columns `names`, without those it gives None for, and the
    file's comment lines."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = file.read().splitlines()
        comments = [line[1:].strip() for line in lines if line.startswith("#")]
        reader = csv.DictReader(line for line in lines if not line.startswith("#"))
        missing = set(names) - set(reader.fieldnames or ())
        if missing:
            raise BadInput(f"{path}: no column {', '.join(sorted(missing))}")
        rows = [row for row in map(row_of, reader) if row is not None]
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise BadInput(f"{path}: {error}") from error
    return rows, comments


def quantile(values, percent):
    """Nearest rank: the smallest value that `percent` % do not exceed."""
    ordered = sorted(values)
    return ordered[max(-(-len(ordered) * percent // 100), 1) - 1]


def draw_shares(axis, values, **how):
    """The share of `values` (sorted) that are at most so large, in percent, as steps."""
    shares = [100.0 * (i + 1) / len(values) for i in range(len(values))]
    axis.step([values[0], *values], [0.0, *shares], where="post", **how)


def make_figure(num_axes, size, **how):
    """A figure of axes side by side."""
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 11, "text.color": INK,
                         "axes.edgecolor": GREY, "axes.labelcolor": INK, "xtick.color": INK,
                         "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
                         "legend.fontsize": 10})
    figure, axes = plt.subplots(1, num_axes, figsize=size, squeeze=False, **how)
    return figure, axes[0]


def save_figure(figure, path, count, comments):
    """Write it with a line below that says what it was made from."""
    source = ";  ".join(line for line in comments if line.startswith(("commit", "machine")))
    figure.text(0.01, 0.01, f"n {count}.  {source}", fontsize=7.5, color=GREY)
    figure.tight_layout(rect=(0, 0.03, 1, 1), w_pad=2.5)
    figure.savefig(path, dpi=120)


def finish(main, name):
    """End with main()'s code. A standard output that cannot be written is said in one line."""
    try:
        try:
            code = main()
        except SystemExit as error:  # of the command line
            code = error.code
        sys.stdout.flush()
    except OSError as error:
        print(f"{name}: standard output cannot be written: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def drawn(name, draw):
    """Call draw(); the exit status, after a line that says what is wrong."""
    try:
        draw()
    except BadInput as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{name}: cannot write the picture: {error}", file=sys.stderr)
        return 2
    return 0


def main(name, description, rows_name, writer, picture_name, draw):
    """The command line of a figure: NAME.py ROWS [--out FILE]; draw(ROWS, FILE). Its exit code."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("rows", metavar=rows_name, help=f"the rows that {writer} wrote")
    parser.add_argument("--out", metavar="FILE",
                        help=f"picture (default: {picture_name} beside the rows)")
    arguments = parser.parse_args()
    picture = arguments.out or os.path.join(os.path.dirname(arguments.rows), picture_name)
    return drawn(name, lambda: draw(arguments.rows, picture))
