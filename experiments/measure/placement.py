#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Placement beside EPLB, over the published example and seeded loads of four laws.

    experiments/measure/placement.py [--eplb FOLDER] [--vectors N] [--out FOLDER]

FOLDER has EPLB's eplb.py (github.com/deepseek-ai/EPLB, never part of this repository), which needs
torch. Without it EPLB's rows in the output folder, or else the kept ones, stand beside libeep's. Loads are drawn by Python's generator from a seed
that names shape, law and layer, so that rows can be made again one by one."""

import argparse
import csv
import hashlib
import io
import math
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KEPT = os.path.join(ROOT, "experiments/results/placement")
EXAMPLE = ((90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86),
           (20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27))
EXPERTS, TOKENS = 256, 262144
SHAPES = ((32, 16, 8), (31, 16, 8), (96, 6, 8), (320, 2, 8), (32, 17, 8))  # ranks, slots, per node
MANY = ((32, 16, 8), (96, 6, 8))  # with the full number of vectors
LAWS = ("z0.5", "z1", "ln", "un")
LAYERS = 58


def draw(law, number):
    """256 loads: counts of tokens by a permuted Zipf law, lognormal or uniform weights."""
    rng = random.Random(f"{law} {number}")
    if law == "ln":
        return [round(1000 * math.exp(rng.gauss(0, 1))) for _ in range(EXPERTS)]
    if law == "un":
        return [round(10000 * rng.random()) for _ in range(EXPERTS)]
    exponent = float(law[1:])
    weights = [1 / (i + 1) ** exponent for i in range(EXPERTS)]
    rng.shuffle(weights)
    scale = TOKENS / sum(weights)
    return [max(0, round(w * scale + rng.gauss(0, 1) * math.sqrt(w * scale))) for w in weights]


def place(program, shape, loads, repeats):
    """libeep's rows by goal, and the lines that tell the time."""
    ranks, slots, per_node = shape
    text = "\n".join(" ".join(map(str, layer)) for layer in loads)
    done = subprocess.run([program, str(ranks), str(slots), str(per_node), str(len(loads[0])),
                           str(repeats)], input=text, text=True, stdout=subprocess.PIPE)
    if done.returncode != 0:
        raise common.Failure(f"{program}: exit {done.returncode}")
    out = done.stdout
    rows = {}
    for row in csv.DictReader(io.StringIO("".join(
            line for line in out.splitlines(True) if not line.startswith("#")))):
        rows.setdefault(row["goal"], []).append(row)
    times = {line.split()[1].rstrip(":"): float(line.split()[5])
             for line in out.splitlines() if line.startswith("#")}
    return rows, times


class Eplb:
    """EPLB's two policies, judged as the bench judges ours."""

    def __init__(self, folder):
        sys.path.insert(0, folder)
        import eplb  # pylint: disable=import-outside-toplevel,import-error
        import torch  # pylint: disable=import-outside-toplevel,import-error
        torch.set_num_threads(1)
        self.torch, self.module = torch, eplb

    def run(self, shape, loads, groups):
        """Placements [layer][rank][slot], and seconds; None where EPLB refuses the shape."""
        ranks, slots, per_node = shape
        nodes = -(-ranks // per_node)
        begin = time.thread_time()
        try:
            if groups == 0:  # its global policy
                found = self.module.rebalance_experts_hierarchical(
                    self.torch.tensor(loads).float(), ranks * slots, 1, 1, ranks)[0]
            else:
                found = self.module.rebalance_experts(self.torch.tensor(loads), ranks * slots,
                                                      groups, nodes, ranks)[0]
        except AssertionError:
            return None, 0
        return found.view(len(loads), ranks, slots).tolist(), time.thread_time() - begin


def judge(shape, distance, loads, placement):
    """Ratio, singles, and experts lost with a rank, a node, a run of `distance` seats."""
    ranks, _, per_node = shape
    holders = [[] for _ in loads]
    for rank, row in enumerate(placement):
        for expert in row:
            holders[expert].append(rank)
    carried = [0.0] * ranks
    lost_rank, lost_node, lost_run = [0] * ranks, [0] * (-(-ranks // per_node)), [0] * ranks
    for expert, where in enumerate(holders):
        for rank in where:
            carried[rank] += loads[expert] / len(where)
        if len(set(where)) == 1:
            lost_rank[where[0]] += 1
        if len({rank // per_node for rank in where}) == 1:
            lost_node[where[0] // per_node] += 1
        for begin in {(where[0] - i) % ranks for i in range(distance)}:
            lost_run[begin] += all((rank - begin) % ranks < distance for rank in where)
    return {"ratio": max(carried) * ranks / sum(carried),
            "singles": sum(len(where) == 1 for where in holders), "lost_rank": max(lost_rank),
            "lost_node": max(lost_node), "lost_run": max(lost_run)}


def mean(values):
    return sum(values) / len(values)


def summary(name, law, who, rows, cost):
    """One line of the table: who places, how well, what is lost at worst, what it costs."""
    def numbers(key):
        return [float(row[key]) for row in rows]
    return {"shape": name, "law": law, "who": who, "vectors": len(rows),
            "ratio_mean": f"{mean(numbers('ratio')):.4f}",
            "ratio_worst": f"{max(numbers('ratio')):.4f}",
            "singles_mean": f"{mean(numbers('singles')):.2f}",
            "lost_rank": int(max(numbers("lost_rank"))), "lost_node": int(max(numbers("lost_node"))),
            "lost_run": int(max(numbers("lost_run"))), "cpu_ms": f"{cost:.1f}"}


def run_eplb(options):
    """EPLB's rows: by its global policy everywhere, by nodes where it takes the shape."""
    eplb, rows = Eplb(options.eplb), []
    for shape in SHAPES:
        for law in LAWS:
            for who, groups in (("eplb_global", 0), ("eplb_hierarchical", 8)):
                if shape[1] == 17 or (groups and shape != (32, 16, 8)):
                    continue  # 17 slots is a size of ours alone
                few = groups or shape not in MANY
                loads = [draw(law, i) for i in range(min(options.vectors, LAYERS) if few
                                                     else options.vectors)]
                placements, seconds = eplb.run(shape, loads, groups)
                if placements is None:
                    continue
                for i, (layer, placed) in enumerate(zip(loads, placements)):
                    row = judge(shape, 8, layer, placed)
                    row["ratio"] = f"{row['ratio']:.4f}"
                    rows.append({"shape": f"{shape[0]}x{shape[1]}", "law": law, "who": who,
                                 "vector": i, **row,
                                 "cpu_ms": f"{seconds * 1e3 * LAYERS / len(loads):.0f}"})
            print("EPLB", shape, law, flush=True)
    for who, groups in (("eplb_global", 0), ("eplb_hierarchical", 4)):
        found, _ = eplb.run((8, 2, 4), EXAMPLE, groups)
        for layer, one in enumerate(found):
            row = judge((8, 2, 4), 2, EXAMPLE[layer], one)
            row["ratio"] = f"{row['ratio']:.6f}"
            rows.append({"shape": "8x2", "law": "example", "who": who, "vector": layer, **row})
    return rows


def read_eplb(path):
    """Kept rows of EPLB by (shape, law, who); none if there is no file."""
    kept = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for row in csv.DictReader(line for line in file if not line.startswith("#")):
                kept.setdefault((row["shape"], row["law"], row["who"]), []).append(row)
    return kept


def measure(options, eplb):
    lines, rows = [], []
    for shape in SHAPES:
        name = f"{shape[0]}x{shape[1]}"
        for law in LAWS:
            count = options.vectors if shape in MANY else min(options.vectors, LAYERS)
            loads = [draw(law, number) for number in range(count)]
            ours, _ = place(options.program, shape, loads, 0)
            _, times = place(options.program, shape, loads[:LAYERS], options.repeats)
            kept = [{"shape": name, "law": law, "vector": i} for i in range(count)]
            theirs = eplb.get((name, law, "eplb_global"), [])
            for goal, placed in ours.items():
                line = summary(name, law, goal, placed, times[goal])
                line["flow_worst"] = f"{max(float(row['flow']) for row in placed):.4f}"
                line["over_floor"] = max(int(r["singles"]) - int(r["floor"]) for r in placed)
                line["over_bound"] = "%.4f" % max(float(row["ratio"]) / float(row["bound"])
                                                  for row in placed)
                line["least_singles"] = min(float(row["least_singles"]) for row in placed)
                line["at_risk"] = max(int(row["at_risk"]) for row in placed)
                line["most_shared"] = max(int(row["most_shared"]) for row in placed)
                if theirs:
                    line["most_above_eplb"] = "%.4f" % max(
                        float(a["ratio"]) - float(b["ratio"]) for a, b in zip(placed, theirs))
                lines.append(line)
                for row, found in zip(kept, placed):
                    row[goal] = found["ratio"]
                    row[goal + "_singles"] = found["singles"]
            for who in ("eplb_global", "eplb_hierarchical"):
                found = eplb.get((name, law, who))
                if found:
                    lines.append(summary(name, law, who, found, float(found[0]["cpu_ms"])))
            rows += kept
            print(name, law, "done", flush=True)
    return lines, rows


def example(options, eplb):
    """The published example: load of the most loaded GPU."""
    rows = []
    for slots in (2, 3):
        placed, _ = place(options.program, (8, slots, 4), EXAMPLE, 0)
        rows += [(goal, 8 * slots, row) for goal, found in placed.items() for row in found]
    for who in ("eplb_global", "eplb_hierarchical"):
        rows += [(who, 16, row) for row in eplb.get(("8x2", "example", who), [])]
    return [{"who": who, "slots": slots, "layer": row.get("layer", row.get("vector")),
             "most_loaded": f"{float(row['ratio']) * sum(EXAMPLE[int(row.get('layer', row.get('vector')))]) / 8:.1f}",
             "singles": row["singles"], "lost_rank": row["lost_rank"],
             "lost_node": row["lost_node"]} for who, slots, row in rows]


def write(path, header, fields, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(header)
        writer = csv.DictWriter(file, fields, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eplb", help="folder with eplb.py")
    parser.add_argument("--eplb-commit", default="unknown")
    parser.add_argument("--vectors", type=int, default=250, help="of each law")
    parser.add_argument("--repeats", type=int, default=30, help="passes; the quickest counts")
    parser.add_argument("--program",
                        default=os.path.join(ROOT, "build/experiments/eep-placement-bench"))
    parser.add_argument("--out", default="out/placement",
                        help="folder for the row files (default %(default)s)")
    options = parser.parse_args()
    commit = common.commit()
    digest = hashlib.sha256(repr([draw(law, i) for law in LAWS for i in range(options.vectors)])
                            .encode()).hexdigest()
    header = f"# experiments/measure/placement.py --vectors {options.vectors}"
    tail = f"sha256 of the loads {digest}\n"
    os.makedirs(options.out, exist_ok=True)
    path = os.path.join(options.out, "eplb.csv")
    if options.eplb:
        rows = run_eplb(options)
        write(path, f"{header} --eplb FOLDER, EPLB {options.eplb_commit}, {tail}", list(rows[0]),
              rows)
    eplb = read_eplb(path if os.path.exists(path) else os.path.join(KEPT, "eplb.csv"))
    header = f"{header} --repeats {options.repeats}, commit {commit}, {tail}"
    lines, rows = measure(options, eplb)
    fields = list(max(lines, key=len))
    write(os.path.join(options.out, "summary.csv"), header, fields, lines)
    write(os.path.join(options.out, "ratios.csv"), header, list(rows[0]), rows)
    lines = example(options, eplb)
    write(os.path.join(options.out, "example.csv"), header, list(lines[0]), lines)
    return 0


if __name__ == "__main__":
    common.finish(main, "placement.py")
