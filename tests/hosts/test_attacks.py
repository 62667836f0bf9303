#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Attacks from outside on each port that an instance opens: refused, counted, and nothing is lost.

    test_attacks.py BUILD/experiments

Hosts are those of tools/netlab. An outsider has an interface on the outside network alone and no key.
The store serves on the outside network here, so that the outsider reaches it at all.
"""
import json
import os
import re
import select
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from host_lab import BOUND_S, ROOT, HostLab, leave_out_unless_possible  # noqa: E402

ATTACKER = os.path.join(ROOT, "tests/hosts/attacker.py")
STORE_PORT, AGENT_PORT = 7000, 7100
RUN = ("--quiet", "--no-picture", "--ranks", 4, "--slots", 32, "--requests", 40, "--rate", 8, "--input", "4:16",
       "--output", "8:24", "--serve", "--keep-busy", 4)
BUILD = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build/experiments")


def program(name):
    return os.path.join(BUILD, name)


def prepare(lab, host):
    """A folder of the host's own, with the job's key."""
    lab.run(host, "sh", "-c", "umask 077; mkdir -p /run/job; "
            "echo 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f >/run/job/key")


def start(lab, host, *command):
    """A program whose lines go to /run/job/NAME.log; it ends with the laboratory."""
    name = os.path.basename(str(command[0]))
    return lab.start(host, "sh", "-c", f"""{' '.join(f"'{word}'" for word in command)} >/run/job/{name}.log 2>&1 &
        echo $! >/run/job/{name}.pid; echo '{{}}'; wait""")


def wait_for(lab, host, file, text):
    end = time.monotonic() + BOUND_S
    while text not in lab.run(host, "cat", file, status=None):
        if time.monotonic() > end:
            raise AssertionError(f"{file} never said '{text}': {lab.run(host, 'cat', file, status=None)}")
        time.sleep(0.1)


def store_address(at, key=True):
    return f"tcp://{at}:{STORE_PORT}?local=/run/job/store" + ("&key-file=/run/job/key" if key else "")


def start_store(lab):
    prepare(lab, "h1")
    start(lab, "h1", program("eep-store"), "--path", store_address("10.78.0.1"))
    wait_for(lab, "h1", "/run/job/eep-store.log", "ready on")


def end_store(lab):
    """It ends in order; how many connections it has refused, by reason."""
    lab.run("h1", "sh", "-c", "kill $(cat /run/job/eep-store.pid)")
    wait_for(lab, "h1", "/run/job/eep-store.log", "refused so far")
    last = lab.run("h1", "cat", "/run/job/eep-store.log").strip().splitlines()[-1]
    return {name.strip(): int(number) for name, number in re.findall(r"([a-z ]+?) (\d+)(?:,|$)", last.split("far:")[1])}


def start_instance(lab, *more, environment=()):
    """Four ranks, which serve until they are told to finish."""
    out = f"/tmp/out-{len(lab.children)}"
    child = subprocess.Popen([os.path.join(ROOT, "tools/netlab"), "--lab", lab.name, "run", "h1", "env", *environment,
                              program("eep-run"), *map(str, RUN), *more, "--out", out],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lab.children.append(child)
    child.out = out
    lab.run("h1", "sh", "-c", f"until [ -S {out}/control.sock ]; do sleep 0.1; done")  # its lock file comes before it
    control(lab, child, "wait", "settled")
    return child


def kill_and_rejoin(lab, child):
    for words in (("kill", "3"), ("rejoin", "3")):
        control(lab, child, *words)
        control(lab, child, "wait", "settled")


def storm(lab, address, port, meanwhile):
    """What an outsider tries while `meanwhile` runs, and for 3 s at least."""
    attack = lab.start("x1", ATTACKER, "storm", address, port)
    assert attack.first == {"ready": True}, attack.first
    begin = time.monotonic()
    meanwhile()
    time.sleep(max(0, begin + 3 - time.monotonic()))
    print("enough", file=attack.stdin, flush=True)
    attack = json.loads(attack.stdout.readline())
    assert attack["said"] == 0 and attack["tried"]["garbage"] > 0, attack
    return attack["tried"]


def expect_nothing_lost(lab, child):
    control(lab, child, "finish")
    text, _ = child.communicate(timeout=2 * BOUND_S)
    assert child.returncode == 0 and "GOOD" in text, text
    summary = json.loads(lab.run("h1", "cat", f"{child.out}/summary.json"))
    assert summary["good"] and "0 lost" in text and "0 wrong" in text, text
    return summary


def control(lab, child, *words):
    timeout = ("--timeout", BOUND_S) if words[0] == "wait" else ()
    return lab.run("h1", program("eep-ctl"), "--out", child.out, *timeout, *words)


def listening(lab, host):
    """(address, port) of each TCP socket that listens in the host."""
    found = set()
    for line in lab.run(host, "cat", "/proc/net/tcp", "/proc/net/tcp6", status=None).splitlines():
        words = line.split()
        if len(words) > 3 and words[3] == "0A":
            address, port = words[1].split(":")
            found.add((".".join(str(byte) for byte in reversed(bytes.fromhex(address[-8:]))), int(port, 16)))
    return found


# ---------------------------------------------------------------- tests


def test_a_store_under_attack():
    with HostLab(1, "--outsiders", 1) as lab:
        start_store(lab)
        run = start_instance(lab, "--store", store_address("10.78.0.1"))
        tried = storm(lab, "10.78.0.1", STORE_PORT, lambda: kill_and_rejoin(lab, run))
        expect_nothing_lost(lab, run)
        refused = end_store(lab)
        print(f"a store under attack: {sum(tried.values())} connections without the key, refused {refused}")
        assert refused["no hello"] >= tried["garbage"] // 2 and refused["another key"] > 0, refused
        assert refused["another version"] > 0 and refused["another service"] > 0, refused
        assert refused.get("crowded out", 0) + refused.get("no proof", 0) > 0, refused


def test_somebody_on_the_way_to_the_store():
    with HostLab(1, "--outsiders", 1) as lab:
        start_store(lab)
        relay = lab.start("x1", ATTACKER, "relay", "10.78.0.101", STORE_PORT, "10.78.0.1", STORE_PORT)
        assert relay.first == {"ready": True}
        run = start_instance(lab, "--store", store_address("10.78.0.101"))
        print("go", file=relay.stdin, flush=True)
        end = time.monotonic() + 2 * BOUND_S
        kill_and_rejoin(lab, run)
        while not select.select([relay.stdout], [], [], 1)[0]:  # its 24 connections have not come yet
            assert time.monotonic() < end, "the store has no traffic"
            kill_and_rejoin(lab, run)
        assert json.loads(relay.stdout.readline()) == {"hurt": 24}
        expect_nothing_lost(lab, run)
        relay.stdin.close()
        counts = json.loads(relay.stdout.read().splitlines()[-1])
        refused = end_store(lab)
        print(f"somebody on the way to the store: {counts}, refused {refused}")
        assert counts["conversations replayed"] > 0 and counts["answered"] == 0, counts
        assert sum(counts.get(kind, 0) for kind in ("changed", "repeated", "left out", "exchanged", "enlarged")) >= 5
        # about half of the messages went to clients, which count for themselves
        assert sum(refused.get(kind, 0) for kind in ("forged", "replayed", "reordered", "oversized")) >= 2, refused
        assert refused["another key"] > 0, refused  # the old conversations


def test_without_the_key_the_store_is_not_served():
    with HostLab(2, "--outsiders", 1) as lab:
        prepare(lab, "h1")
        text = lab.run("h1", program("eep-store"), "--path", store_address("10.77.0.1", key=False), status=1)
        assert "10.77.0.1" in text and "without a key" in text, text
        text = lab.run("h1", program("eep-store"), "--path", store_address("0.0.0.0"), status=1)
        assert "every interface" in text, text
        # on the fabric an outsider does not even reach it
        start(lab, "h1", program("eep-store"), "--path", store_address("10.77.0.1"))
        wait_for(lab, "h1", "/run/job/eep-store.log", "ready on")
        assert listening(lab, "h1") == {("10.77.0.1", STORE_PORT)}, listening(lab, "h1")
        assert json.loads(lab.run("x1", ATTACKER, "knock", "10.78.0.1", STORE_PORT)) == {"open": []}
        assert json.loads(lab.run("h2", ATTACKER, "knock", "10.77.0.1", STORE_PORT)) == {"open": [STORE_PORT]}
        text = lab.run("h2", program("eep-store"), "--forget", store_address("10.77.0.1", key=False), status=1)
        assert "without a key" in text, text


def test_an_agent_under_attack():
    with HostLab(1, "--outsiders", 1) as lab:
        start_store(lab)
        start(lab, "h1", program("eep-agent"), "--store", store_address("10.78.0.1").replace("job/store", "job/agent"),
              "--listen", f"10.78.0.1:{AGENT_PORT}", "--key", "/run/job/key")
        end = time.monotonic() + BOUND_S
        while ("10.78.0.1", AGENT_PORT) not in listening(lab, "h1"):
            assert time.monotonic() < end, lab.run("h1", "cat", "/run/job/eep-agent.log")
            time.sleep(0.1)
        tried = storm(lab, "10.78.0.1", AGENT_PORT, lambda: None)
        print(f"an agent under attack: {sum(tried.values())} connections without the key: {tried}")
        lab.run("h1", "sh", "-c", "kill -0 $(cat /run/job/eep-agent.pid)")
        assert json.loads(lab.run("x1", ATTACKER, "knock", "10.78.0.1", AGENT_PORT)) == {"open": [AGENT_PORT]}


def test_rows_under_attack():
    """All peers are behind the network here, whose ports are on the outside interface."""
    with HostLab(1, "--outsiders", 1) as lab:
        prepare(lab, "h1")
        run = start_instance(lab, environment=("EEP_NETWORK=tcp", "EEP_NETWORK_PEERS=all", "EEP_KEY_FILE=/run/job/key",
                                               "EEP_NETWORK_INTERFACE=outside0"))
        ports = sorted(port for at, port in listening(lab, "h1") if at == "10.78.0.1")
        assert len(ports) == 4, ports
        tried = [storm(lab, "10.78.0.1", port, lambda: None) for port in ports[:3]]
        tried.append(storm(lab, "10.78.0.1", ports[3], lambda: kill_and_rejoin(lab, run)))
        expect_nothing_lost(lab, run)
        print(f"rows under attack: {sum(sum(each.values()) for each in tried)} connections without the key to 4 ranks")


def test_ports_are_on_the_interfaces_that_are_named():
    """UCX trusts its network: its ports are on the fabric alone, and without a network there is none."""
    with HostLab(1, "--outsiders", 1) as lab:
        prepare(lab, "h1")
        for bulk, network, allowed in (("shm", "off", set()), ("shm", "tcp", {"127.0.0.1"}), ("ucx", "off", {"10.77.0.1"})):
            run = start_instance(lab, "--bulk", bulk, environment=(
                "EEP_BULK_INTERFACE=fabric0", f"EEP_NETWORK={network}", "EEP_NETWORK_PEERS=all"))
            seen = listening(lab, "h1")
            for words in (("kill", "3"), ("rejoin", "3")):
                control(lab, run, *words)
                seen |= listening(lab, "h1")
                control(lab, run, "wait", "settled")
                seen |= listening(lab, "h1")
            print(f"--bulk {bulk}, EEP_NETWORK={network}: {len(seen)} ports, on {sorted({at for at, _ in seen})}")
            assert {address for address, _ in seen} == allowed, (bulk, network, seen)
            if seen:
                ports = [port for _, port in seen]
                assert json.loads(lab.run("x1", ATTACKER, "knock", "10.78.0.1", *ports)) == {"open": []}
            expect_nothing_lost(lab, run)


def main():
    leave_out_unless_possible()
    tests = [value for name, value in sorted(globals().items()) if name.startswith("test_")]
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    for test in tests:
        if wanted in test.__name__:
            begin = time.monotonic()
            test()
            print(f"ok {test.__name__} ({time.monotonic() - begin:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
