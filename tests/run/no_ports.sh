#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One machine opens no network port: no process of a run has a TCP or UDP socket, whether ranks are
# processes or threads, while weights are copied after a kill and for a joiner, and where no eep-run
# has started the ranks. Over UCX, on request, all ports are on the loopback interface alone, and
# variables that are meant for another user of UCX change nothing.
#
#   tests/run/no_ports.sh EEP_RUN TEST_CONTEXT
set -eu
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT
exec /usr/bin/python3 - "$tmp" "$@" <<'PYTHON'
import json, os, re, subprocess, sys, time

tmp, eep_run, test_context = sys.argv[1:4]
TABLES = ["/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6"]


def network_sockets():
    """Inode -> local address of every network socket of this machine."""
    found = {}
    for table in TABLES:
        with open(table) as lines:
            for line in list(lines)[1:]:
                fields = line.split()
                found[fields[9]] = fields[1]
    return found


def family_of(first):
    """A process and all that come of it, also those that begin a session of their own."""
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                parents[int(pid)] = int(stat.read().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            pass  # it has ended meanwhile
    found, more = set(), {first}
    while more:
        found |= more
        more = {pid for pid, parent in parents.items() if parent in found} - found
    return found


def sockets_of(first):
    """Inodes of the sockets of all processes of a family, and how many processes there are."""
    inodes, processes = set(), 0
    for pid in family_of(first):
        try:
            processes += 1
            for fd in os.listdir(f"/proc/{pid}/fd"):
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        except (OSError, ValueError):
            pass  # it has ended meanwhile
    return inodes, processes


def watch(name, command, env=None):
    """Run it; returns the local addresses of its network sockets, and the most processes seen."""
    with open(f"{tmp}/log", "w") as log:
        run = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True,
                               env={**os.environ, **(env or {})})
        ports, most, until = set(), 0, time.monotonic() + 60
        while run.poll() is None and time.monotonic() < until:
            inodes, processes = sockets_of(run.pid)
            network = network_sockets()
            ports |= {network[inode] for inode in inodes if inode in network}
            most = max(most, processes)
            time.sleep(0.01)
    if run.poll() != 0:
        run.kill()
        print(open(f"{tmp}/log").read())
        sys.exit(f"no_ports: {name}: the run failed or did not end")
    return ports, most


def run_of(out, *more):
    # one copy of each expert in a slot: a kill makes the others copy it from a backup
    return [eep_run, "--out", f"{tmp}/{out}", "--ranks", "3", "--layers", "2", "--experts", "24",
            "--slots", "12", "--requests", "4", "--keep-busy", "4", "--kill", "1@0.3",
            "--rejoin", "1@0.8", "--keep-busy-seconds", "1.6", "--no-oracle", "--no-picture", "--quiet", *more]


def prove_life(out):
    """Where nothing happened, no port was to be seen: a repair copied, and a joiner got weights."""
    with open(f"{tmp}/{out}/summary.json") as file:
        summary = json.load(file)
    if not sum(fault.get("weights_bytes_in_pause") or 0 for fault in summary["faults"]):
        sys.exit(f"no_ports: {out}: no repair has copied, so nothing was shown")
    if [join["joined"] for join in summary["joins"]] != [True]:
        sys.exit(f"no_ports: {out}: nobody has joined, so nothing was shown")


for name, more in [("processes", []), ("threads", ["--threads"])]:
    ports, most = watch(name, run_of(name, *more))
    if ports:
        sys.exit(f"no_ports: {name}: network sockets at {sorted(ports)}")
    if most < (4 if name == "processes" else 1):
        sys.exit(f"no_ports: {name}: only {most} processes were looked at")
    prove_life(name)

# They live for a fraction of a second: once more, if a busy machine did not let us look in time.
def watch_own_ranks(env, is_seen):
    for _ in range(10):
        ports, most = watch("a program's own ranks", [test_context, "--filter", "context/*repair*", "-j1"], env)
        with open(f"{tmp}/log") as file:
            tested = re.search(r"Tested: .*?(\d+).*? Passing: .*?(\d+)", file.read())
        if not tested or int(tested[2]) < 1:
            sys.exit("no_ports: ranks without eep-run: no test was run, so nothing was shown")
        if is_seen(ports, most):
            return ports
    sys.exit(f"no_ports: ranks without eep-run {env}: they were not seen, so nothing was shown")


ports = watch_own_ranks({}, lambda ports, most: most > 1)
if ports:
    sys.exit(f"no_ports: ranks without eep-run: network sockets at {sorted(ports)}")
watch_own_ranks({"EEP_BULK": "ucx"}, lambda ports, most: ports)

foreign = {"UCX_NET_DEVICES": "mlx5_0:1", "UCX_TLS": "rc"}
ports, most = watch("ucx", run_of("ucx", "--bulk", "ucx"), foreign)
prove_life("ucx")
if not ports:
    sys.exit("no_ports: over UCX no socket was seen: this test sees nothing")
if any(not address.startswith("0100007F:") for address in ports):
    sys.exit(f"no_ports: ucx: sockets beyond the loopback interface: {sorted(ports)}")
print("no ports in shared memory; over UCX", len(ports), "sockets, all on 127.0.0.1")
PYTHON
