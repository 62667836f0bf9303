# SPDX-License-Identifier: Apache-2.0
"""The command line, and the caption, of a figure that is drawn from several files of kept rows."""

import argparse
import csv
import os
import re
import sys
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

    def caption(self, n):
        """One line: what the rows are, where they are, and what made them."""
        commit = self.said("commit").split(" ")[0] or "unknown"
        seed = re.search(r"--seed[ =](\d+)", self.said("command"))
        parts = [f"{self.kind}: {os.path.relpath(self.path, ROOT)}", f"commit {commit}",
                 f"seed {seed.group(1) if seed else 1}", f"n {n}"]
        machine = self.said("machine").split(", load")[0]
        if machine and not self.kind.startswith("modelled"):
            parts.insert(2, machine)
            parts += [self.said("note")] if self.said("note") else []
        return ", ".join(parts)


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
    try:
        draw({option: getattr(arguments, option.replace("-", "_")) for option in inputs},
             arguments.out)
    except BadInput as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{name}: cannot write the picture: {error}", file=sys.stderr)
        return 2
    return 0


def finish(name, description, inputs, draw):
    kept_rows.finish(lambda: main(name, description, inputs, draw), name)
