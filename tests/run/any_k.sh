#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Any k ranks of a node that are killed at once: repaired out of the node's memory while the
# survivors' slots hold every expert; one more: fails closed by name, and heals when they come back.
# Every token is checked.
#
#   tests/run/any_k.sh EEP_RUN                    a few subsets of 8 ranks
#   tests/run/any_k.sh EEP_RUN RANKS OUT SECONDS  subsets of RANKS until the time is over, rows to OUT;
#                                                 all subsets of 8, subsets by seed of more
set -eu
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT
exec /usr/bin/python3 - "$tmp" "$@" <<'PYTHON'
import csv, itertools, json, random, subprocess, sys, time

tmp, eep_run = sys.argv[1:3]
EXPERTS, LAYERS = 64, 2
FIELDS = ("ranks", "slots", "killed", "k", "adjacent", "uncovered", "named", "healed", "good", "wrong",
          "lost", "own_node_bytes", "other_rank_bytes", "file_bytes", "pause_ms")


def adjacent(killed, ranks):
    """They are neighbours on the ring of seats."""
    return any(all((first + i) % ranks in killed for i in range(len(killed))) for first in killed)


def run(ranks, slots, killed):
    """One instance whose ranks in `killed` are killed at once; where nobody can serve, they come back."""
    must_fail = (ranks - len(killed)) * slots < EXPERTS
    command = [eep_run, "--quiet", "--no-picture", "--ranks", str(ranks), "--layers", str(LAYERS), "--experts",
               str(EXPERTS), "--slots", str(slots), "--requests", "24", "--rate", "40", "--input", "4:16",
               "--output", "16:48", "--out", tmp + "/run", "--force"]
    for rank in killed:
        command += ["--kill", f"{rank}@600ms"]
        if must_fail:
            command += ["--rejoin", f"{rank}@3000ms"]  # the others know by then that nobody can serve
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    try:
        with open(tmp + "/run/summary.json") as file:
            summary = json.load(file)
    except OSError:
        print(done.stdout, done.stderr)
        raise
    with open(tmp + "/run/events.csv") as file:
        uncovered = ",uncovered," in file.read()
    faults = [fault for fault in summary["faults"] if fault["pause_ms"]]
    return {"ranks": ranks, "slots": slots, "killed": " ".join(map(str, killed)), "k": len(killed),
            "adjacent": int(adjacent(killed, ranks)), "uncovered": int(uncovered),
            "named": int("no rank can serve" in done.stderr and "expert" in done.stderr),
            "healed": int(must_fail and done.returncode == 0), "good": int(done.returncode == 0),
            "wrong": summary["tokens_wrong"] + summary["tokens_doubled"], "lost": summary["requests_lost"],
            "own_node_bytes": summary["weights_bytes_own_node"],
            "other_rank_bytes": summary["weights_bytes_other_rank"],
            "file_bytes": summary["weights_bytes_file"],
            "pause_ms": max((fault["pause_ms"] for fault in faults), default=None)}, must_fail, done


def judge(row, must_fail, done):
    wrong = []
    if not row["good"] or row["wrong"] or row["lost"]:
        wrong.append("not good")
    if bool(row["uncovered"]) != must_fail:
        wrong.append("uncovered" if row["uncovered"] else "not uncovered")
    if must_fail and not row["named"]:
        wrong.append("no expert is named")
    if not must_fail and row["file_bytes"]:
        wrong.append("the file was read")
    if wrong:
        print(done.stdout[-3000:], done.stderr[-3000:])
        sys.exit(f"ranks {row['killed']} of {row['ranks']}, {row['slots']} slots: {', '.join(wrong)}")


def say(row):
    print(f"{row['k']} of {row['ranks']} ({row['killed']}), {row['slots']} slots: "
          f"{'failed closed and healed' if row['uncovered'] else 'repaired'}; bytes from the own node "
          f"{row['own_node_bytes']}, other ranks {row['other_rank_bytes']}, files {row['file_bytes']}; "
          f"{row['wrong']} wrong, {row['lost']} lost", flush=True)


def cases(ranks):
    """Slots such that half of the ranks just hold all experts, for every k up to half and one more; for
    larger k, slots with which the survivors just hold them."""
    everybody = range(ranks)
    if ranks == 8:
        sets = [c for k in range(1, ranks) for c in itertools.combinations(everybody, k)]
        random.Random(1).shuffle(sets)
    else:
        draw = random.Random(1)
        sets = [tuple(sorted(draw.sample(everybody, draw.randint(2, ranks - 1)))) for _ in range(1000)]
    for killed in sets:
        yield -(-EXPERTS // (ranks - len(killed))), killed
    least = -(-EXPERTS // (ranks // 2))
    for killed in random.Random(3).sample(list(itertools.combinations(everybody, ranks // 2 + 1)), 8):
        yield least, killed


if len(sys.argv) == 3:
    for slots, killed in ((16, (0, 1, 2, 3)), (16, (0, 2, 4, 6)), (64, (0, 1, 2, 3, 4, 5, 6)),
                          (16, (1, 2, 3, 4, 5))):
        row, must_fail, done = run(8, slots, killed)
        judge(row, must_fail, done)
        say(row)
    sys.exit(0)
ranks, out, seconds = int(sys.argv[3]), sys.argv[4], float(sys.argv[5])
until = time.monotonic() + seconds
with open(out, "w", newline="") as file:
    commit = subprocess.run([eep_run, "--version"], capture_output=True, text=True).stdout.strip()
    file.write(f"# {commit}\n# tests/run/any_k.sh EEP_RUN {ranks} OUT {seconds:g}\n")
    rows = csv.DictWriter(file, FIELDS, lineterminator="\n")
    rows.writeheader()
    cases_of = list(cases(ranks))
    random.Random(2).shuffle(cases_of)
    num = 0
    for slots, killed in cases_of:
        if time.monotonic() > until:
            break
        row, must_fail, done = run(ranks, slots, killed)
        rows.writerow(row)
        file.flush()
        judge(row, must_fail, done)
        num += 1
print(f"{num} of {len(cases_of)} subsets of {ranks} ranks: none uncovered that slots could cover")
PYTHON
