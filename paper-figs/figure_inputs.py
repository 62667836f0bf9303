# SPDX-License-Identifier: Apache-2.0
"""The command line, and the caption, of a figure that is drawn from several files of kept rows."""

import argparse
import collections
import csv
import os
import re
import textwrap

import kept_rows
from kept_rows import GREY, BadInput

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RESULTS = os.path.join(ROOT, "experiments/results")
# Okabe and Ito's palette, told apart with every common colour blindness.
ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2",
                                               "#D55E00", "#CC79A7")


class Rows(list):
    """Rows as dicts of texts, and what their file says of how they were made."""

    def __init__(self, path, kind, columns):
        super().__init__()
        self.path, self.kind = path, kind
        try:
            with open(path, newline="", encoding="utf-8") as file:
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: {error}") from error
        self.head = [line[1:].strip() for line in lines if line.startswith("#")]
        reader = csv.DictReader(line for line in lines if not line.startswith("#"))
        missing = set(columns) - set(reader.fieldnames or ())
        if missing:
            raise BadInput(f"{path}: no column {', '.join(sorted(missing))}")
        self.extend(reader)
        if not self:
            raise BadInput(f"{path}: no rows")

    def said(self, word):
        """What the head says behind `word`; "" if nothing."""
        return next((line[len(word):].strip() for line in self.head if line.startswith(word + " ")), "")

    def seeds(self):
        """"seeds 1 to 3", of the rows or else of the command; "" if neither has one."""
        told = re.search(r"--seed[ =](\d+)", self.said("command"))
        seeds = {row["seed"] for row in self} if "seed" in self[0] else set(told.groups() if told else ())
        try:
            seeds = sorted(int(seed) for seed in seeds)
        except (TypeError, ValueError) as error:
            raise BadInput(f"{self.path}: column seed: {error}") from error
        if len(seeds) < 2:
            return f"seed {seeds[0]}" if seeds else ""
        return f"seeds {seeds[0]} to {seeds[-1]}"

    def ranks(self):
        """How many ranks all runs had."""
        found = sorted({row["ranks"] for row in self})
        if len(found) > 1 or not found[0].isdigit():
            raise BadInput(f"{self.path}: column ranks: one number for all rows is wanted, "
                           f"not {', '.join(found)}")
        return int(found[0])

    def processes(self):
        """"32 processes on 2 cores"."""
        cores = re.search(r", (\d+) cores", self.said("machine"))
        return f"{self.ranks()} processes" + (f" on {cores[1]} cores" if cores else "")

    def caption(self, n):
        """One line: what the rows are, where they are, and what made them. `n`: of one bar or point."""
        commit = self.said("commit").split(" ")[0] or "unknown"
        parts = [f"{self.kind}: {place_of(self.path)}", f"commit {commit}",
                 *filter(None, [self.seeds()]), f"n {n}"]
        machine = self.said("machine").split(", load")[0]
        if machine and not self.kind.startswith("modelled"):
            parts.insert(2, machine)
            parts += [self.said("note")] if self.said("note") else []
        return ", ".join(parts)


def place_of(path):
    """Below the checkout without its name."""
    inside = os.path.relpath(path, ROOT)
    return os.path.abspath(path) if inside.startswith(os.pardir) else inside


def count_text(counts):
    """"2", or "2 to 3" where bars have different numbers of values."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def runs_each(rows, what):
    """How many runs a bar or a median of as many failed ranks is made of, and which median that is."""
    counts = collections.Counter(row["failed"] for row in rows).values()
    text = f"{count_text(counts)} run{'s' if max(counts) > 1 else ''} a {what}"
    return text + (", the median of two is the smaller" if 2 in counts else "")


def median_run(rows, name="pause_ms"):
    """The run with the median of `name`."""
    return sorted(rows, key=lambda row: float(row[name]))[(len(rows) - 1) // 2]


def save(figure, path, captions, top=1.0):
    """Write the picture with its captions below."""
    columns = int(16 * figure.get_size_inches()[0])
    captions = [line for caption in captions for line in textwrap.wrap(caption, columns)]
    height = 0.19 * len(captions) / figure.get_size_inches()[1]
    for i, line in enumerate(reversed(captions)):
        figure.text(0.008, 0.008 + i * height / len(captions), line, fontsize=7.5, color=GREY)
    figure.tight_layout(rect=(0, height + 0.012, 1, top), w_pad=2.0)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    figure.savefig(path, dpi=120)


def main(name, description, inputs, draw):
    """NAME.py [--INPUT FILE]... [--out FILE]; `inputs` maps an input to its file below
    experiments/results. draw({input: path}, FILE). Its exit code."""
    parser = argparse.ArgumentParser(description=description)
    for option, default in inputs.items():
        parser.add_argument(f"--{option}", metavar="FILE", default=os.path.join(RESULTS, default),
                            help=f"rows (default: experiments/results/{default})")
    picture = os.path.splitext(name)[0].replace("_", "-") + ".png"
    parser.add_argument("--out", metavar="FILE", default=picture, help=f"picture (default: {picture})")
    arguments = parser.parse_args()
    files = {option: getattr(arguments, option.replace("-", "_")) for option in inputs}
    return kept_rows.drawn(name, lambda: draw(files, arguments.out))


def finish(name, description, inputs, draw):
    kept_rows.finish(lambda: main(name, description, inputs, draw), name)
