#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One of three hosts loses power under load and comes back: a run of eep-run on hosts of tools/netlab
with two ranks each and an etcd cluster of three, whose rows are kept for a picture.

    tests/hosts/host_loss.py BUILD OUT

OUT gets what paper-figs/timeline.py reads. A host counts as lost after the 200 ms that are the
default. Exit status: 0 the oracle found every token right; 1 not; 77 no laboratory here.
"""
import os
import shutil
import sys

sys.dont_write_bytecode = True
import test_run  # noqa: E402
from host_lab import HostLab, leave_out_unless_possible  # noqa: E402

KEPT = ("events.csv", "requests.csv", "run.json", "startup.csv", "steps.csv", "summary.json", "tokens.csv")
FAULTS = ("--host-kill", "h3@2", "--host-start", "h3@expelled:5+1500ms", "--rejoin", "4,5@exited:5+2800ms")
LOAD = ("--requests", 300, "--rate", 45, "--keep-busy", 10, "--layers", 2, "--hidden", 128, "--inner", 96)


def keep(source, out, folder):
    """The rows, without the paths of this machine."""
    os.makedirs(out, exist_ok=True)
    for name in KEPT:
        with open(f"{source}/{name}", encoding="utf-8") as file:
            text = file.read()
        for path, said in ((test_run.BUILD, "build"), (folder, "DIR")):
            text = text.replace(path.replace("/", "\\/"), said).replace(path, said)
        with open(f"{out}/{name}", "w", encoding="utf-8") as file:
            file.write(text)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    leave_out_unless_possible()
    if not shutil.which("etcd"):
        print("no etcd here (Debian: etcd-server)")
        sys.exit(77)
    test_run.BUILD = os.path.realpath(sys.argv[1])
    test_run.LIMITS = "host_silence_us=200000"
    os.environ["EEP_WIRE"] = f"{test_run.BUILD}/experiments/eep-wire"
    folder = f"/dev/shm/eep-host-loss-{os.getpid()}"
    os.makedirs(folder)
    try:
        with HostLab(3, "--share", folder) as lab:
            laboratory = test_run.Laboratory(lab, folder)
            summary = laboratory.run(*LOAD, *FAULTS)
            keep(laboratory.out, sys.argv[2], folder)
        for fault in summary["faults"]:
            print({part: fault.get(part) for part in test_run.PARTS})
    except AssertionError as error:
        print(f"FAIL  {error}")
        sys.exit(1)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
