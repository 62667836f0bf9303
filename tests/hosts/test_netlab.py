#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tools/netlab keeps its promises (docs/NETLAB.md): hosts share nothing but a network, faults do what
they say within bounds, and nothing is left behind.

    tests/hosts/test_netlab.py BUILD/experiments [NAME...]      only the tests whose names contain one

Exit status 77: this machine lets no laboratory run.
"""
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from host_lab import NETLAB, HostLab, leave_out_unless_possible, netlab  # noqa: E402

EXPERIMENTS = None
DAY = 86400


def near(value, low, high, text):
    assert low <= value <= high, f"{text}: {value}, not in [{low}, {high}]"


def answered(lab, source, address, number=20):
    return lab.probe(source, "ask", address, number)["times_ms"]


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
        mounts = file.read()
    return {"namespaces": spaces - foreign, "mounts": mounts, "interfaces": set(os.listdir("/sys/class/net")),
            "folders": [name for name in names if os.path.exists(f"/run/eep-netlab/{name}")]}


def processes_of(lab):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/environ", "rb") as file:
                if b"EEP_NETLAB_HOLDER=" + lab.encode() + b"/" in file.read():
                    found.append(pid)
    return found


def expect_nothing_of(lab, before):
    until = time.monotonic() + 5  # an ended process keeps its namespaces until its parent has looked
    while time.monotonic() < until:
        after = what_there_is([lab])
        new = {key: after[key] for key in after if after[key] != before[key]}
        if not new.get("namespaces", set()) - before["namespaces"]:
            new.pop("namespaces", None)
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
           "--keep-busy", "2", "--keep-busy-seconds", "4", "--no-oracle", "--no-picture", "--quiet", "--out", "/run/eep-state/out"]
    with HostLab(2) as lab:
        runs = [subprocess.Popen([NETLAB, "--lab", lab.name, "run", host, f"{EXPERIMENTS}/eep-run", *run],
                                 stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL) for host in ("h1", "h2")]
        files, most = {"h1": {}, "h2": {}}, {"h1": 0, "h2": 0}
        spaces = {lab.run(host, "readlink", "/proc/self/ns/pid").strip(): host for host in files}
        while any(run.poll() is None for run in runs):
            count = {"h1": 0, "h2": 0}
            for pid in filter(str.isdigit, os.listdir("/proc")):
                with contextlib.suppress(OSError):
                    host = spaces.get(os.readlink(f"/proc/{pid}/ns/pid"))
                    if host and os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "eep-run":
                        count[host] += 1
                        files[host].update(files_of(pid))
            most = {host: max(most[host], count[host]) for host in most}
            time.sleep(0.1)
        assert [run.returncode for run in runs] == [0, 0], [run.returncode for run in runs]
        assert min(most.values()) >= 3, f"processes seen: {most}"
        assert min(map(len, files.values())) > 20, {host: len(files[host]) for host in files}
        both = {key: (files["h1"][key], files["h2"][key]) for key in files["h1"].keys() & files["h2"].keys()}
        # what both have read for themselves is the machine's programs, which no host can write
        both = {key: names for key, names in both.items() if not names[0].startswith(("/usr/", "/lib/", EXPERIMENTS))}
        assert not both, both


def test_clocks_are_days_apart():
    with HostLab(3, "--clock", f"h3={400 * DAY}") as lab:
        for host, ahead in (("h1", 10 * DAY), ("h2", 20 * DAY), ("h3", 400 * DAY)):
            here = {"monotonic": time.monotonic(), "boottime": time.clock_gettime(time.CLOCK_BOOTTIME),
                    "realtime": time.time()}
            there = lab.probe(host, "clocks")
            for clock in ("monotonic", "boottime"):
                near(there[clock] - here[clock], ahead - 0.1, ahead + 3, f"{clock} of {host}")
            near(there["realtime"] - here["realtime"], -0.1, 3, f"realtime of {host}")
        lab.run("h2", "sh", "-c", "echo kept >/run/eep-state/file; echo gone >/tmp/file")
        lab("clock", "h2", 3 * DAY)
        near(lab.probe("h2", "clocks")["monotonic"] - time.monotonic(), 3 * DAY - 0.1, 3 * DAY + 3, "h2 set")
        assert lab.run("h2", "cat", "/run/eep-state/file").strip() == "kept"
        lab.run("h2", "cat", "/tmp/file", status=1)


# -------------------------------------------------------------------------------------------- faults

def test_drops():
    with HostLab(3, "--outsiders", "1") as lab:
        for host in ("h1", "h2", "h3"):
            assert lab.start_probe(host, "serve").first["ready"]
        near(statistics.median(answered(lab, "h1", "10.77.0.2")), 0, 20, "an answer, ms")
        assert len(answered(lab, "x1", "10.78.0.1")) == 20
        assert not answered(lab, "x1", "10.77.0.1", 2), "the fabric is not reached from outside"
        lab("partition", "h1|h2,x1")
        for source, address in (("h1", "10.77.0.2"), ("h2", "10.77.0.1"), ("h1", "10.78.0.2"), ("x1", "10.78.0.1")):
            assert not answered(lab, source, address, 3), (source, address)
        assert len(answered(lab, "h1", "10.77.0.3")) == 20
        assert len(answered(lab, "x1", "10.78.0.2")) == 20
        lab("heal", "--between", "h1", "h2")
        assert len(answered(lab, "h1", "10.77.0.2")) == 20
        assert not answered(lab, "x1", "10.78.0.1", 3)
        lab("heal")
        assert len(answered(lab, "x1", "10.78.0.1")) == 20


def counted(lab, source, target, number, net="10.77.0"):
    sink = lab.start_probe(target, "sink", 0.3 + number * 0.002)
    lab.probe(source, "send", f"{net}.{target[1:]}", number)
    return json.loads(sink.stdout.readline())["received"]


def test_one_way_loss():
    with HostLab(2) as lab:
        lab("one-way", "h1", "h2", "--net", "fabric")
        assert counted(lab, "h1", "h2", 50) == 0
        assert counted(lab, "h2", "h1", 50) == 50
        assert counted(lab, "h1", "h2", 50, "10.78.0") == 50
        lab("one-way", "h1", "h2", "--loss", "0.3")
        near(counted(lab, "h1", "h2", 1000), 620, 780, "of 1000 datagrams at a loss of 0.3")  # 5.5 sigma
        assert counted(lab, "h2", "h1", 50) == 50


def say_line(child, text="hello"):
    child.stdin.write(f"{text}\n")
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
        plain = statistics.median(answered(lab, "h1", "10.77.0.2", 50))
        lab("delay", "h1", "h2", 20)
        times = answered(lab, "h1", "10.77.0.2", 50)
        assert len(times) == 50
        near(min(times), 40, 41 + plain, "least of 20 ms each way")
        near(statistics.median(times), 40, 60 + plain, "20 ms each way")
        near(statistics.median(answered(lab, "h1", "10.77.0.3", 50)), 0, 10 + plain, "another pair")
        assert say_line(held) == {"answer": "ok"}, "a wire comes into a connection, which goes on"
        lab("delay", "h1", "h2", 5, "--one-way", "--jitter", 10)  # h2 sends as before
        times = answered(lab, "h1", "10.77.0.2", 100)
        near(min(times), 25, 28 + plain, "least of 5 to 15 ms and 20 ms")
        near(statistics.median(times), 26, 50 + plain, "5 to 15 ms and 20 ms")
        lab("heal")
        near(statistics.median(answered(lab, "h1", "10.77.0.2", 50)), 0, 10 + plain, "healed")
        assert say_line(held) == {"answer": "ok"}


def test_rate():
    with HostLab(2) as lab:
        assert lab.start_probe("h2", "serve").first["ready"]
        assert lab.probe("h1", "stream", "10.77.0.2", 50_000_000)["mbit"] > 400
        lab("rate", "h1", "h2", 80)
        near(lab.probe("h1", "stream", "10.77.0.2", 10_000_000)["mbit"], 60, 81, "at 80 Mbit/s")
        lab("rate", "h1", "h2", 8)
        near(lab.probe("h1", "stream", "10.77.0.2", 1_000_000)["mbit"], 5, 8.1, "at 8 Mbit/s")


def test_a_host_crashes_unheard():
    with HostLab(2) as lab:
        assert lab.start_probe("h2", "serve").first["ready"]
        held = lab.start_probe("h1", "hold", "10.77.0.2")
        assert say_line(held) == {"answer": "ok"}
        boot = lab.run("h2", "cat", "/proc/sys/kernel/random/boot_id")
        lab("delay", "h1", "h2", 1)
        lab("crash", "h2")
        assert say_line(held) == {"error": "TimeoutError"}
        assert "not running" in lab.run("h2", "true", status=1)
        lab("boot", "h2")
        assert lab.run("h2", "cat", "/proc/sys/kernel/random/boot_id") != boot
        until = time.monotonic() + 20  # the next retransmission meets a host that knows no connection
        while (said := say_line(held)) == {"error": "TimeoutError"}:
            assert time.monotonic() < until, said
        assert said["error"] in ("ConnectionResetError", "BrokenPipeError"), said
        assert lab.start_probe("h2", "serve").first["ready"]
        near(min(answered(lab, "h1", "10.77.0.2")), 2, 10, "the delay holds for the new host")


# ------------------------------------------------------------------------------------ leaving nothing

def test_two_laboratories_beside_each_other():
    before = what_there_is()
    with HostLab(2, name="test-one") as one:
        with HostLab(2, name="test-two") as two:
            for lab in (one, two):
                assert lab.start_probe("h2", "serve").first["ready"]
            one("partition", "h1|h2")
            assert not answered(one, "h1", "10.77.0.2", 3)
            assert len(answered(two, "h1", "10.77.0.2")) == 20
            assert "test-one: 2 hosts" in two("list") and "test-two: 2 hosts" in one("list")
            assert "is up" in two("up", 2, status=1)
        one("heal")
        assert len(answered(one, "h1", "10.77.0.2")) == 20
    for name in ("test-one", "test-two"):
        expect_nothing_of(name, before)


def test_nothing_is_left_when_the_tool_is_killed():
    before, name = what_there_is(), "test-killed"
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
        until = time.monotonic() + 5
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
    before, name = what_there_is(), "test-runs"
    with HostLab(1, name=name) as lab:
        lab.run("h1", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null & true")
        served = lab.start_probe("h1", "serve")
        lab("down")
        assert served.wait(timeout=10) == 128 + signal.SIGKILL
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
    failed = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_") or (sys.argv[2:] and not any(word in name for word in sys.argv[2:])):
            continue
        begin = time.monotonic()
        try:
            test()
            print(f"ok    {name[5:].replace('_', ' ')} ({time.monotonic() - begin:.1f} s)", flush=True)
        except (AssertionError, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
            failed += 1
            print(f"FAIL  {name}: {error}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
