# SPDX-License-Identifier: Apache-2.0
"""A laboratory of tools/netlab for tests: `with HostLab(3) as lab: lab.run("h1", "hostname")`."""
import contextlib
import json
import os
import queue
import random
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
NETLAB = os.path.join(ROOT, "tools/netlab")
PROBE = os.path.join(ROOT, "tests/hosts/host_probe.py")
LACKS = 77
BOUND_S = 60  # of waits for what must come; no healthy run comes near it


def run_tests(names):
    """The functions named test_... among a module's names, in their order; with words behind the
    first argument those alone whose names contain one. Ends the program: 1 if one has failed."""
    words = sys.argv[2:]
    failed = 0
    for name, test in list(names.items()):
        if not name.startswith("test_") or (words and not any(word in name for word in words)):
            continue
        begin = time.monotonic()
        try:
            test()
            print(f"ok    {name[5:].replace('_', ' ')} ({time.monotonic() - begin:.1f} s)", flush=True)
        except (AssertionError, subprocess.TimeoutExpired, json.JSONDecodeError, queue.Empty) as error:
            failed += 1
            print(f"FAIL  {name}: {error!r}", flush=True)
    sys.exit(1 if failed else 0)


def leave_out_unless_possible():
    """End with 77 and the reason where this machine lets no laboratory run."""
    done = subprocess.run([NETLAB, "can"], capture_output=True, text=True, check=False)
    if done.returncode == LACKS:
        print(done.stdout.strip())
        sys.exit(LACKS)
    if done.returncode != 0:
        sys.exit(done.stderr)


def netlab(name, *words, status=0):
    """A command of tools/netlab; its output. None as status: any."""
    done = subprocess.run([NETLAB, "--lab", name, *map(str, words)], capture_output=True, text=True,
                          check=False, timeout=120)
    if status is not None and done.returncode != status:
        raise AssertionError(f"netlab {' '.join(map(str, words))}: status {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def free_ports(number):
    """Ports of the loopback interface that nobody has now, below those that the kernel gives to connections. One of
    those may be taken before a daemon listens, or while it is away: by a client of its own that tries again."""
    found = []
    while len(found) < number:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


class HostLab:
    def __init__(self, hosts, *options, name=None):
        self.name = name or f"test-{os.getpid()}"
        self.hosts, self.options, self.children = hosts, options, []

    def __enter__(self):
        netlab(self.name, "up", self.hosts, *self.options)
        return self

    def __exit__(self, *_):
        netlab(self.name, "down")
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            child.wait()
            child.stdin.close()
            child.stdout.close()

    def __call__(self, *words, status=0):
        return netlab(self.name, *words, status=status)

    def run(self, host, *command, status=0):
        return netlab(self.name, "run", host, *command, status=status)

    def start(self, host, *command):
        """A command that goes on; its first line of output has been read, as JSON."""
        child = subprocess.Popen([NETLAB, "--lab", self.name, "run", host, *map(str, command)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.children.append(child)
        child.first = json.loads(child.stdout.readline() or "null")
        return child

    def probe(self, host, *words):
        """The last line of host_probe.py, as JSON."""
        return json.loads(self.run(host, PROBE, *words).splitlines()[-1])

    def start_probe(self, host, *words):
        return self.start(host, PROBE, *words)
