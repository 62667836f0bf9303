#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An instance under Ray: an actor for each rank, which starts the rank as its child.

    ray_ranks.py --ranks 4 --store /run/eep/store ENGINE [ARGUMENT ...]

A rank that ends with another status than 0 is started again by its actor, alone. An actor that ends
takes its rank with it, and Ray starts that actor again, alone (max_restarts). The program ends when
all ranks have ended with status 0. --address names a cluster; without it Ray runs on this machine.
Give each actor what its rank needs: --resources '{"GPU": 1}'.
"""
import argparse
import ctypes
import json
import os
import signal
import subprocess
import threading
import time

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before Ray is imported: it reports nothing to its makers

import ray  # noqa: E402

RESTART_S = 0.2
PR_SET_PDEATHSIG = 1


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@ray.remote(max_restarts=-1, num_cpus=0)
class Rank:
    """The actor of a seat. Its rank is a child, so that an engine that crashes ends no actor."""

    def __init__(self, command, environment):
        self.command = command
        self.environment = {**os.environ, **environment, "EEP_LAUNCHER": "eep"}
        self.starts, self.has_ended = 0, False
        threading.Thread(target=self.keep, daemon=True).start()

    def keep(self):
        """Until the rank ends in order. The kernel ends the child with this thread, and so with the
        actor: a rank without an actor would hold the seat."""
        while True:
            self.starts += 1
            child = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL,
                                     preexec_fn=die_with_parent)
            if child.wait() == 0:
                self.has_ended = True
                return
            time.sleep(RESTART_S)

    def state(self):
        return self.starts, self.has_ended


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--ranks", type=int, required=True, help="ranks of the instance")
    parser.add_argument("--store", required=True, help="EEP_STORE of the ranks (docs/STORES.md)")
    parser.add_argument("--address", help="of a Ray cluster; without it Ray is started here")
    parser.add_argument("--resources", type=json.loads, default={}, help="of each actor, as JSON")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the engine and its arguments")
    options = parser.parse_args()
    if not options.command:
        parser.error("no engine is given")
    ray.init(address=options.address, include_dashboard=False, log_to_driver=False)
    common = {"EEP_STORE": options.store, "EEP_SIZE": str(options.ranks)}
    common.update({name: value for name, value in os.environ.items()
                   if name.startswith("EEP_") and name not in common})
    gpus = options.resources.pop("GPU", None)
    actors = [Rank.options(num_gpus=gpus, resources=options.resources).remote(
        options.command, {**common, "EEP_RANK": str(rank)}) for rank in range(options.ranks)]
    ended = set()
    while len(ended) < len(actors):
        for rank, actor in enumerate(actors):
            try:
                if rank not in ended and ray.get(actor.state.remote(), timeout=10)[1]:
                    ended.add(rank)
                    print(f"rank {rank} has ended", flush=True)
            except (ray.exceptions.ActorUnavailableError, ray.exceptions.GetTimeoutError):
                pass  # Ray starts this actor again
        time.sleep(0.2)
    ray.shutdown()


if __name__ == "__main__":
    main()
