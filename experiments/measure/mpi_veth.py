#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""eep-bench-mpi --network between two network namespaces that a veth pair connects.

The first half of the ranks runs in one namespace, the other half in the other, under one mpirun.
Open MPI uses TCP on that pair, and so does libeep. Without a key libeep takes loopback addresses
alone. So each end has an address of 127.0.0.0/8, which the kernel is told to send over the pair.
With --key both ends prove a key first, each message has a code, and addresses are ordinary ones.
Open MPI uses the same addresses, and proves and signs nothing.

Needs root, Open MPI and iproute2. Writes FILE, with the rows of eep-bench-mpi.

Exit: 0 the bar is met, 3 it is missed, 2 it could not be measured.
"""

import argparse
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common

LINK, OPEN_NET, KEY_NET = "rows0", "127.79.0", "10.79.0"
LONGEST_S = 1800
# mpirun runs this as `AGENT HOST COMMAND...`; a host is a namespace.
AGENT = """#!/bin/sh
host=$1
shift
exec ip netns exec "$host" unshare --uts sh -c 'hostname "$0" && exec sh -c "$*"' "$host" "$@"
"""
# A rank: where its rows come in is for its namespace to say.
RANK = """#!/bin/sh
host=$(hostname)
export EEP_NETWORK=tcp EEP_NETWORK_INTERFACE="{network}.${{host##*-}}" EEP_BENCH_MPI_RESULT={result}
{key}exec "$@"
"""


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=common.positive, default=2, metavar="N", help="ranks (default %(default)s)")
    parser.add_argument("--blocks", type=common.positive, default=20, metavar="N",
                        help="blocks of eep-bench-mpi (default %(default)s)")
    parser.add_argument("--key", action="store_true", help="libeep's connections have a key")
    parser.add_argument("--csv", metavar="FILE", default="out/mpi-veth.csv", help="rows (default %(default)s)")
    parser.add_argument("--append", action="store_true", help="behind those that FILE has")
    parser.add_argument("--bin", metavar="DIR", default=os.path.join(common.ROOT, "build/experiments"),
                        help="folder of eep-bench-mpi (default: build/experiments of this checkout)")
    options = parser.parse_args()
    for program in ("mpirun", "ip", "unshare"):
        if not shutil.which(program):
            raise common.Failure(f"{program} is not in PATH")
    if os.geteuid() != 0:
        raise common.Failure("namespaces need root")
    if options.ranks % 2:
        raise common.Failure("--ranks: half of them are in each namespace")
    return options


def ip(*words, check=True):
    done = subprocess.run(["ip", *words], stderr=subprocess.PIPE, text=True, check=False)
    if check and done.returncode:
        raise common.Failure(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Pair:
    """Two namespaces, and the pair that connects them. They go when it is left."""

    def __init__(self, network):
        self.network = network
        self.names = [f"eep-{os.getpid()}-{number}" for number in (1, 2)]

    def __enter__(self):
        try:
            for name in self.names:
                ip("netns", "add", name)
            ip("link", "add", LINK, "netns", self.names[0], "type", "veth", "peer", "name", LINK, "netns", self.names[1])
            for number, name in enumerate(self.names, 1):
                self.prepare(name, number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def prepare(self, name, number):
        ip("-n", name, "link", "set", "lo", "up")
        ip("netns", "exec", name, "sh", "-c", f"echo 1 > /proc/sys/net/ipv4/conf/{LINK}/route_localnet")
        ip("-n", name, "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
        ip("-n", name, "address", "add", f"{self.network}.{number}/24", "dev", LINK)
        ip("-n", name, "link", "set", LINK, "up")

    def __exit__(self, *_):
        for name in self.names:
            ip("netns", "delete", name, check=False)


def write(path, text, mode):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def command_of(options, pair, folder):
    """What runs in the first namespace."""
    key = ""
    if options.key:
        key = f"export EEP_KEY_FILE={write(f'{folder}/key', secrets.token_hex(32), 0o600)}\n"
    agent = write(f"{folder}/agent", AGENT, 0o700)
    rank = write(f"{folder}/rank", RANK.format(network=pair.network, key=key,
                                              result=f"{folder}/result"), 0o700)
    parameters = {"plm_rsh_agent": agent, "plm_rsh_no_tree_spawn": "1", "oob_tcp_if_include": LINK,
                  "mpi_yield_when_idle": "1", "pml": "ob1", "btl": "tcp,self", "btl_tcp_if_include": LINK}
    words = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", str(options.ranks),
             "--host", ",".join(f"{name}:{options.ranks // 2}" for name in pair.names)]
    for name, value in parameters.items():
        words += ["--mca", name, value]
    return [agent, pair.names[0], "exec " + shlex.join([
        *words, rank, os.path.realpath(f"{options.bin}/eep-bench-mpi"), "--network", "--ranks", str(options.ranks),
        "--blocks", str(options.blocks), "--csv", f"{folder}/rows.csv"])]


def run(command):
    """Its exit status. mpirun ends its ranks when it is told to end."""
    process = subprocess.Popen(command)
    try:
        return process.wait(LONGEST_S)
    except subprocess.TimeoutExpired:
        raise common.Failure(f"mpirun did not end within {LONGEST_S} s") from None
    finally:
        process.terminate()
        process.wait()


def keep(options, text):
    """The rows, and that they are of a veth pair."""
    words = ["--ranks", str(options.ranks), "--blocks", str(options.blocks), *["--key"] * options.key]
    text = re.sub("^# command .*$", f"# command experiments/measure/mpi_veth.py {' '.join(words)}", text, flags=re.M)
    text = text.replace("both over TCP", "both over TCP of a veth pair" + ("; libeep with a key" if options.key else ""))
    os.makedirs(os.path.dirname(options.csv) or ".", exist_ok=True)
    if options.append:
        text = re.sub("^case,.*\n", "", text, flags=re.M)
    with open(options.csv, "a" if options.append else "w", encoding="utf-8") as file:
        file.write(text)


def main():
    options = parse()
    with tempfile.TemporaryDirectory() as folder, Pair(KEY_NET if options.key else OPEN_NET) as pair:
        status = run(command_of(options, pair, folder))
        if status or not os.path.exists(f"{folder}/result"):
            raise common.Failure(f"mpirun: exit {status}")
        with open(f"{folder}/result", encoding="utf-8") as file:
            result = int(file.read())
        with open(f"{folder}/rows.csv", encoding="utf-8") as file:
            keep(options, file.read())
    print(f"rows: {options.csv}")
    return result


if __name__ == "__main__":
    common.finish(main, "mpi_veth.py")
