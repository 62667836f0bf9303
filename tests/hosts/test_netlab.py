#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tools/netlab keeps its promises (docs/NETLAB.md): hosts share nothing but a network, faults do what
they say within bounds, and nothing is left behind.

    tests/hosts/test_netlab.py BUILD/experiments [NAME...]      only the tests whose names contain one

Exit status 77: this machine lets no laboratory run.
"""
import contextlib
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from host_lab import BOUND_S, NETLAB, HostLab, leave_out_unless_possible, netlab, run_tests  # noqa: E402

EXPERIMENTS = None
DAY = 86400


def near(value, low, high, text):
    assert low <= value <= high, f"{text}: {value}, not in [{low}, {high}]"


def answered(lab, source, address, number=20):
    """How long each datagram took, in ms; all of them come back."""
    times = lab.probe(source, "ask", address, number, BOUND_S)["times_ms"]
    assert len(times) == number, f"{len(times)} of {number} datagrams of {source} to {address} came back"
    return times


def is_cut(lab, source, address):
    return not lab.probe(source, "ask", address, 3, 0.25)["times_ms"]


def expect_least(lab, source, address, low, high, text):
    """All take `low` ms, and some no more than `high`: others of this machine may hold up the rest."""
    least, until = math.inf, time.monotonic() + BOUND_S
    while least > high and time.monotonic() < until:
        times = answered(lab, source, address)
        least = min(least, *times)
        near(least, low, math.inf, text)
    near(least, low, high, text)


def expect_rate(lab, size, low, high, text):
    """A stream has never more than `high` Mbit/s, and at least `low` where nothing else holds it up."""
    most, until = 0, time.monotonic() + BOUND_S
    while most < low and time.monotonic() < until:
        most = max(most, lab.probe("h1", "stream", "10.77.0.2", size)["mbit"])
        near(most, 0, high, text)
    near(most, low, high, text)


def what_there_is(names=()):
    """What laboratories of these names could leave on this machine; others may run beside them."""
    spaces, foreign = set(), set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/environ", "rb") as file:
                label = re.search(rb"(?:^|\0)(?:EEP_NETLAB_HOLDER=([^/\0]*)/|EEP_HOST_ID=([^\0]*)-[hx])", file.read())
            is_foreign = label and (label[1] or label[2]).decode() not in names
            for kind in ("net", "mnt", "pid", "ipc", "uts", "time"):
                (foreign if is_foreign else spaces).add(os.readlink(f"/proc/{pid}/ns/{kind}"))
    with open("/proc/self/mounts") as file:
        mounts = set(file)
    return {"namespaces": spaces - foreign, "mounts": mounts, "interfaces": set(os.listdir("/sys/class/net")),
            "folders": {name for name in names if os.path.exists(f"/run/eep-netlab/{name}")}}


def processes_of(lab):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/environ", "rb") as file:
                if b"EEP_NETLAB_HOLDER=" + lab.encode() + b"/" in file.read():
                    found.append(pid)
    return found


def expect_nothing_of(lab, before):
    until = time.monotonic() + BOUND_S  # an ended process keeps its namespaces until its parent has looked
    while time.monotonic() < until:
        after = what_there_is([lab])
        new = {key: after[key] - before[key] for key in after if after[key] - before[key]}
        if not new and not processes_of(lab):
            return
        time.sleep(0.05)
    raise AssertionError(f"left behind: {new}, processes {processes_of(lab)}")


# ------------------------------------------------------------------------------------------- hosts

def test_hosts_share_nothing():
    with HostLab(2) as lab:
        left = lab.start_probe("h1", "leave", "mark-of-h1")
        assert left.first["ready"]
        seen = lab.probe("h1", "find", "mark-of-h1")["found"]
        assert len(seen) == 7, f"h1 itself sees {seen}"
        assert lab.probe("h2", "find", "mark-of-h1")["found"] == []
        for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid", "/proc/self/ns/net",
                     "/proc/self/ns/mnt", "/proc/self/ns/ipc", "/proc/self/ns/uts", "/proc/self/ns/time"):
            command = ["cat" if "boot_id" in path else "readlink", path]
            assert lab.run("h1", *command) != lab.run("h2", *command), path
        assert lab.run("h1", "hostname").strip() == "h1"
        assert lab.run("h2", "printenv", "EEP_HOST_ID").strip() == f"{lab.name}-h2"
        pid = str(left.first["pid"])
        lab.run("h2", "kill", "-9", pid, status=1)
        assert left.poll() is None
        assert "Read-only" in lab.run("h1", "touch", "/netlab-was-here", status=1)


def files_of(pid):
    """(device, inode) of what a process maps for writing and has open, other than what all may read."""
    found = {}
    with open(f"/proc/{pid}/maps") as file:
        for line in file:
            fields = line.split(None, 5)
            if "s" in fields[1] and fields[4] != "0":
                major, minor = (int(part, 16) for part in fields[3].split(":"))
                found[(os.makedev(major, minor), int(fields[4]))] = fields[-1].strip()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            path = f"/proc/{pid}/fd/{fd}"
            target, facts = os.readlink(path), os.stat(path)
            # every anonymous inode of the kernel has one number; / cannot be written
            if target != "/" and not target.startswith(("/dev/", "anon_inode:")) or target.startswith("/dev/shm/"):
                found[(facts.st_dev, facts.st_ino)] = target
    return found


def test_no_rank_reaches_into_another_host():
    """Two instances, one a host, with the same paths: what their ranks map and hold is disjoint."""
    run = ["--ranks", "2", "--layers", "2", "--experts", "24", "--slots", "24", "--requests", "20",
           "--keep-busy", "2", "--serve", "--no-oracle", "--no-picture", "--quiet", "--out", "/run/eep-state/out"]
    with HostLab(2) as lab:
        runs = [subprocess.Popen([NETLAB, "--lab", lab.name, "run", host, f"{EXPERIMENTS}/eep-run", *run],
                                 stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL) for host in ("h1", "h2")]
        files, looks = {"h1": {}, "h2": {}}, {"h1": 0, "h2": 0}
        spaces = {lab.run(host, "readlink", "/proc/self/ns/pid").strip(): host for host in files}
        until = time.monotonic() + BOUND_S
        while min(looks.values()) < 20:  # at a launcher and its two ranks, which serve
            count = {"h1": 0, "h2": 0}
            for pid in filter(str.isdigit, os.listdir("/proc")):
                with contextlib.suppress(OSError):
                    host = spaces.get(os.readlink(f"/proc/{pid}/ns/pid"))
                    if host and os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "eep-run":
                        count[host] += 1
                        files[host].update(files_of(pid))
            looks = {host: looks[host] + (count[host] >= 3) for host in looks}
            assert time.monotonic() < until and all(run.poll() is None for run in runs), f"now {count} processes; {looks}"
            time.sleep(0.1)
        for host in files:
            for words in (("--timeout", BOUND_S, "wait", "settled"), ("finish",)):
                lab.run(host, f"{EXPERIMENTS}/eep-ctl", "--out", "/run/eep-state/out", *words)
        assert [run.wait(BOUND_S) for run in runs] == [0, 0], [run.returncode for run in runs]
        assert min(map(len, files.values())) > 20, {host: len(files[host]) for host in files}
        both = {key: (files["h1"][key], files["h2"][key]) for key in files["h1"].keys() & files["h2"].keys()}
        # what both have read for themselves is the machine's programs, which no host can write
        both = {key: names for key, names in both.items() if not names[0].startswith(("/usr/", "/lib/", EXPERIMENTS))}
        assert not both, both


def clocks():
    return {"monotonic": time.monotonic(), "boottime": time.clock_gettime(time.CLOCK_BOOTTIME), "realtime": time.time()}


def test_clocks_are_days_apart():
    with HostLab(3, "--clock", f"h3={400 * DAY}") as lab:
        for host, ahead in (("h1", 10 * DAY), ("h2", 20 * DAY), ("h3", 400 * DAY)):
            before = clocks()
            there = lab.probe(host, "clocks")
            after = clocks()
            for clock, offset in (("monotonic", ahead), ("boottime", ahead), ("realtime", 0)):
                near(there[clock] - offset, before[clock] - 0.1, after[clock] + 0.1, f"{clock} of {host}")
        lab.run("h2", "sh", "-c", "echo kept >/run/eep-state/file; echo gone >/tmp/file")
        lab("clock", "h2", 3 * DAY)
        before = time.monotonic()
        near(lab.probe("h2", "clocks")["monotonic"] - 3 * DAY, before - 0.1, time.monotonic() + 0.1, "h2 set")
        assert lab.run("h2", "cat", "/run/eep-state/file").strip() == "kept"
        lab.run("h2", "cat", "/tmp/file", status=1)


# -------------------------------------------------------------------------------------------- faults

def test_drops():
    with HostLab(3, "--outsiders", "1") as lab:
        for host in ("h1", "h2", "h3"):
            assert lab.start_probe(host, "serve").first["ready"]
        expect_least(lab, "h1", "10.77.0.2", 0, 20, "an answer, ms")
        answered(lab, "x1", "10.78.0.1")
        assert is_cut(lab, "x1", "10.77.0.1"), "the fabric is not reached from outside"
        lab("partition", "h1|h2,x1")
        for source, address in (("h1", "10.77.0.2"), ("h2", "10.77.0.1"), ("h1", "10.78.0.2"), ("x1", "10.78.0.1")):
            assert is_cut(lab, source, address), (source, address)
        answered(lab, "h1", "10.77.0.3")
        answered(lab, "x1", "10.78.0.2")
        lab("heal", "--between", "h1", "h2")
        answered(lab, "h1", "10.77.0.2")
        assert is_cut(lab, "x1", "10.78.0.1")
        lab("heal")
        answered(lab, "x1", "10.78.0.1")


def expect_received(lab, source, target, number, least, most, net="10.77.0"):
    sink = lab.start_probe(target, "sink")
    lab.probe(source, "send", f"{net}.{target[1:]}", number)
    near(say_line(sink, least)["received"], least, most, f"of {number} datagrams of {source} to {net}.{target[1:]}")


def test_one_way_loss():
    with HostLab(2) as lab:
        lab("one-way", "h1", "h2", "--net", "fabric")
        expect_received(lab, "h1", "h2", 50, 0, 0)
        expect_received(lab, "h2", "h1", 50, 50, 50)
        expect_received(lab, "h1", "h2", 50, 50, 50, "10.78.0")
        lab("one-way", "h1", "h2", "--loss", "0.3")
        expect_received(lab, "h1", "h2", 1000, 620, 780)  # 5.5 sigma
        expect_received(lab, "h2", "h1", 50, 50, 50)


def say_line(child, line=BOUND_S):
    """Its answer. To one that holds a connection the line says how many seconds the other end has."""
    child.stdin.write(f"{line}\n")
    child.stdin.flush()
    return json.loads(child.stdout.readline())


def test_resets():
    with HostLab(2) as lab:
        assert lab.start_probe("h2", "serve").first["ready"]
        held = lab.start_probe("h1", "hold", "10.77.0.2")
        assert say_line(held) == {"answer": "ok"}
        lab("reset", "h1", "h2")
        assert say_line(held) == {"error": "ConnectionResetError"}
        assert lab.start_probe("h1", "hold", "10.77.0.2").first == {"error": "ConnectionRefusedError"}
        lab("heal")
        assert say_line(lab.start_probe("h1", "hold", "10.77.0.2")) == {"answer": "ok"}


def test_delay():
    with HostLab(3) as lab:
        for host in ("h2", "h3"):
            assert lab.start_probe(host, "serve").first["ready"]
        held = lab.start_probe("h1", "hold", "10.77.0.2")
        lab("delay", "h1", "h2", 20)
        expect_least(lab, "h1", "10.77.0.2", 40, 50, "20 ms each way")
        expect_least(lab, "h1", "10.77.0.3", 0, 15, "another pair")
        assert say_line(held) == {"answer": "ok"}, "a wire comes into a connection, which goes on"
        lab("delay", "h1", "h2", 5, "--one-way", "--jitter", 10)  # h2 sends as before
        expect_least(lab, "h1", "10.77.0.2", 25, 35, "5 to 15 ms and 20 ms")
        near(statistics.median(answered(lab, "h1", "10.77.0.2", 100)), 27, math.inf, "5 to 15 ms, half of them above 10")
        lab("heal")
        expect_least(lab, "h1", "10.77.0.2", 0, 15, "healed")
        assert say_line(held) == {"answer": "ok"}


def test_rate():
    with HostLab(2) as lab:
        assert lab.start_probe("h2", "serve").first["ready"]
        expect_rate(lab, 50_000_000, 200, math.inf, "without a limit")
        lab("rate", "h1", "h2", 80)
        expect_rate(lab, 10_000_000, 60, 81, "at 80 Mbit/s")
        lab("rate", "h1", "h2", 8)
        expect_rate(lab, 1_000_000, 5, 8.1, "at 8 Mbit/s")


def test_a_host_crashes_unheard():
    with HostLab(2) as lab:
        assert lab.start_probe("h2", "serve").first["ready"]
        held = lab.start_probe("h1", "hold", "10.77.0.2")
        assert say_line(held) == {"answer": "ok"}
        boot = lab.run("h2", "cat", "/proc/sys/kernel/random/boot_id")
        lab("delay", "h1", "h2", 1)
        lab("crash", "h2")
        assert say_line(held, 0.5) == {"error": "TimeoutError"}
        assert "not running" in lab.run("h2", "true", status=1)
        lab("boot", "h2")
        assert lab.run("h2", "cat", "/proc/sys/kernel/random/boot_id") != boot
        # the next retransmission meets a host that knows no connection; it comes as late again as the first is ago
        until = time.monotonic() + 2 * BOUND_S
        while (said := say_line(held, 0.5)) == {"error": "TimeoutError"}:
            assert time.monotonic() < until, said
        assert said["error"] in ("ConnectionResetError", "BrokenPipeError"), said
        assert lab.start_probe("h2", "serve").first["ready"]
        expect_least(lab, "h1", "10.77.0.2", 2, 10, "the delay holds for the new host")


# ------------------------------------------------------------------------------------ leaving nothing

def test_two_laboratories_beside_each_other():
    before, names = what_there_is(), [f"test-{word}-{os.getpid()}" for word in ("one", "two")]
    with HostLab(2, name=names[0]) as one:
        with HostLab(2, name=names[1]) as two:
            for lab in (one, two):
                assert lab.start_probe("h2", "serve").first["ready"]
            one("partition", "h1|h2")
            assert is_cut(one, "h1", "10.77.0.2")
            answered(two, "h1", "10.77.0.2")
            assert f"{names[0]}: 2 hosts" in two("list") and f"{names[1]}: 2 hosts" in one("list")
            assert "is up" in two("up", 2, status=1)
        one("heal")
        answered(one, "h1", "10.77.0.2")
    for name in names:
        expect_nothing_of(name, before)


def test_nothing_is_left_when_the_tool_is_killed():
    before, name = what_there_is(), f"test-killed-{os.getpid()}"
    for wait in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5):
        with subprocess.Popen([NETLAB, "--lab", name, "up", "3"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as tool:
            time.sleep(wait)
            tool.kill()
        netlab(name, "down")
        expect_nothing_of(name, before)
    with HostLab(2, name=name) as lab:
        running = lab.start_probe("h1", "serve")
        running.kill()
        running.wait()
        until = time.monotonic() + BOUND_S
        while "host_probe.py serve" in lab.run("h1", "ps", "ax"):
            assert time.monotonic() < until, "the command outlives its 'netlab run'"
        lab("delay", "h1", "h2", 1)
        lab("rate", "h1", "h2", 10)
        for command in (["delay", "h1", "h2", "7"], ["heal"], ["crash", "h1"]):
            with subprocess.Popen([NETLAB, "--lab", name, *command], stderr=subprocess.DEVNULL) as tool:
                time.sleep(0.15)
                tool.kill()
    expect_nothing_of(name, before)


def test_down_ends_what_runs():
    before, name = what_there_is(), f"test-runs-{os.getpid()}"
    with HostLab(1, name=name) as lab:
        lab.run("h1", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null & true")
        served = lab.start_probe("h1", "serve")
        lab("down")
        assert served.wait(timeout=BOUND_S) == 128 + signal.SIGKILL
        lab("down")  # of nothing
    expect_nothing_of(name, before)


# -------------------------------------------------------------------------------------- refused by name

def test_refusals():
    with HostLab(2) as lab:
        for words, text in ((["partition", "h1|h9"], "'h9' is no host"), (["partition", "h1"], "two groups"),
                            (["run", "h9", "true"], "'h9'"), (["boot", "h1"], "'h1' is running"),
                            (["run", "h1"], "which command"), (["crash", "h7"], "'h7' is no host")):
            assert text in lab(*words, status=1), words
        for words in (["delay", "h1", "h2", "-3"], ["rate", "h1", "h2", "0"], ["fly"],
                      ["one-way", "h1", "h2", "--loss", "2"]):
            lab(*words, status=2)
        assert "no-such-program" in lab.run("h1", "no-such-program", status=127)
        lab.run("h1", "sh", "-c", "exit 5", status=5)
        lab.run("h1", "sh", "-c", "kill -9 $$", status=137)
    assert "is not up" in netlab("test-none", "heal", status=1)
    assert "usage" in netlab("test-none", "--help")
    assert "needs root" in subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", NETLAB, "up", "1"],
                                          capture_output=True, text=True, check=False).stdout


def main():
    global EXPERIMENTS
    EXPERIMENTS = os.path.realpath(sys.argv[1])
    os.environ["EEP_WIRE"] = f"{EXPERIMENTS}/eep-wire"
    leave_out_unless_possible()
    run_tests(globals())


if __name__ == "__main__":
    main()
