#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""eep-chaos on three hosts of tools/netlab with two ranks each and an etcd cluster of three, in rounds of 20
faults, until so many were made or the first violation (docs/CHAOS.md).

    tests/hosts/network_chaos.py BUILD OUT [FAULTS [SEED]]      200 faults, seed 1

OUT gets chaos.csv, and the rows of a round that failed. Exit status: that of eep-chaos; 77 no laboratory here.
"""
import os
import shutil
import sys

sys.dont_write_bytecode = True
import test_run  # noqa: E402
from host_lab import HostLab, leave_out_unless_possible  # noqa: E402
from test_run import Laboratory  # noqa: E402

ROUND = 20      # faults
MINUTES = 1000  # the number of faults ends it


def main():
    leave_out_unless_possible()
    if not shutil.which("etcd"):
        print("no etcd here (Debian: etcd-server)")
        sys.exit(77)
    test_run.BUILD, out = os.path.realpath(sys.argv[1]), sys.argv[2]
    total, seed = (int(word) for word in (sys.argv[3:] + ["200", "1"][len(sys.argv) - 3:])[:2])
    os.environ["EEP_WIRE"] = f"{test_run.BUILD}/experiments/eep-wire"
    folder = f"/dev/shm/eep-chaos-net-{os.getpid()}"
    os.makedirs(folder)
    try:
        with HostLab(3, "--share", folder) as lab:
            status = Laboratory(lab, folder).chaos(f"{folder}/out", "--seed", seed, "--total", total, "--faults", ROUND,
                                                   "--minutes", MINUTES).returncode
        shutil.copytree(f"{folder}/out", out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("control.sock", ".held"))
    finally:
        shutil.rmtree(folder)
    sys.exit(status)


if __name__ == "__main__":
    main()
