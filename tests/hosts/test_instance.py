#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An instance on three hosts that one machine plays: each has an EEP_HOST_ID, an agent, files of
its own and two ranks; the store and the rows go over TCP on the loopback interface. Ranks, agents
and a host stop or die under load; each result is checked by the engine. Needs no rights.

    test_instance.py BUILD [NAME ...]
"""
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
from host_lab import free_ports, run_tests  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BOUND_S = 120  # of waits for what must come; no healthy run comes near it
QUIET_S = 3   # three times the time after which a host's silence is evidence here
HOSTS = ("a", "b", "c")
# On a busy machine a host that is well may not run for 200 ms.
LIMITS = "host_silence_us=1000000,step_deadline_us=10000000,expel_floor_us=10000000,drain_bound_us=10000000"


def until(holds, what):
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < BOUND_S, f"{what()} after {BOUND_S} s"
        time.sleep(0.01)


class Engine:
    """host_engine.py: a rank, and what it has said."""

    def __init__(self, world, seat):
        self.host, self.end, self.said = HOSTS[seat // 2], None, []
        self.child = world.start(self.host, f"{ROOT}/tests/hosts/host_engine.py", f"{world.build}/libeep.so",
                                 EEP_RANK=str(seat), EEP_SIZE="6", EEP_STORE=world.store(self.host), EEP_NETWORK="tcp", EEP_BULK="ucx", EEP_RANKS_PER_NODE="2",
                                 EEP_LAB_CONFIG=LIMITS)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        with contextlib.suppress(ValueError):
            for line in self.child.stdout:
                said = json.loads(line)
                self.end = said.get("end", self.end)
                if "done" in said:
                    self.said.append(said)

    def last(self, name):
        return self.said[-1][name] if self.said else None


class World:
    """Six ranks on three hosts, their agents, and a store of their own."""

    def __init__(self, folder, build):
        self.folder, self.build, self.children, self.agents = folder, build, [], {}
        self.port, self.ports = free_ports(1)[0], {}
        with open(f"{folder}/key", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as key:
            key.write("5e" * 32 + "\n")

    def __enter__(self):
        self.start_store()
        for host in HOSTS:
            self.start_agent(host)
        self.engines = {seat: Engine(self, seat) for seat in range(6)}
        self.expect_serves(6)
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
        for child in self.children:
            child.wait()
            child.stdout.close()

    def store(self, host):
        return f"tcp://127.0.0.1:{self.port}?local={self.folder}/{host}"

    def start(self, host, *command, **more):
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env={
            **os.environ, "EEP_HOST_ID": f"played-{host}", "EEP_KEY_FILE": f"{self.folder}/key", **more})
        self.children.append(child)
        return child

    def start_store(self):  # it has no agent beside it: each host's own comes for its lock
        store = self.start("s", f"{self.build}/experiments/eep-store", "--path", f"tcp://127.0.0.1:{self.port}?local={self.folder}/s")
        assert "ready" in store.stdout.readline()

    def start_agent(self, host):
        agent = self.start(host, f"{self.build}/experiments/eep-agent", "--store", self.store(host), "--listen",
                           f"127.0.0.1:{self.ports.setdefault(host, free_ports(1)[0])}")
        assert "ready" in agent.stdout.readline(), f"no agent on {host}"
        self.agents[host] = agent

    def all(self, name):
        return [engine.last(name) for engine in self.engines.values()]

    def expect_serves(self, active):
        """All present ranks step with so many; returns their longest gap meanwhile, in ms."""
        begins = {engine: len(engine.said) for engine in self.engines.values()}
        until(lambda: all(engine.last("active") == active and len(engine.said) > begins[engine] for engine in
                          self.engines.values()), lambda: f"{active} ranks do not serve: {self.all('active')}")
        done = self.all("done")
        until(lambda: all(now > before + 20 for now, before in zip(self.all("done"), done)),
              lambda: f"no steps: {done} to {self.all('done')}")
        assert all(engine.end is None for engine in self.engines.values()), self.all("epoch")
        return max(said["gap_ms"] for engine, begin in begins.items() for said in engine.said[begin:])

    def expect_no_fault(self):
        """Nobody is left out; planned views may come, as behind a loss."""
        active, begins = self.engines[0].last("active"), {e: len(e.said) for e in self.engines.values()}
        time.sleep(QUIET_S)
        said = {line["active"] for engine, begin in begins.items() for line in engine.said[begin:]}
        assert said == {active}, f"of {active} ranks serve {said}"
        self.expect_serves(active)


@contextlib.contextmanager
def world():
    with tempfile.TemporaryDirectory() as folder, World(folder, BUILD) as w:
        yield w


def test_agents_die_and_stand_still():
    with world() as w:
        w.expect_no_fault()
        for agent in w.agents.values():
            agent.kill()
            agent.wait()
        w.expect_no_fault()
        for host in HOSTS:
            w.start_agent(host)
        w.expect_no_fault()
        w.agents["b"].send_signal(signal.SIGSTOP)
        w.expect_no_fault()
        w.agents["b"].send_signal(signal.SIGCONT)
        w.expect_no_fault()


def test_a_rank_and_then_a_host_die():
    with world() as w:
        w.engines.pop(4).child.kill()
        print(f"      a rank is killed: the others serve, longest gap {w.expect_serves(5)} ms")
        lost = [w.engines.pop(5).child, w.agents["c"]]
        for child in lost:
            child.send_signal(signal.SIGSTOP)
        print(f"      a host is lost: the others serve, longest gap {w.expect_serves(4)} ms")
        w.expect_no_fault()
        for child in lost:  # its agent kills its ranks, unless they have seen first that they are out (N13)
            child.send_signal(signal.SIGCONT)
        until(lambda: lost[0].poll() is not None, lambda: "the expelled rank lives on")
        for seat in (4, 5):  # their ends are known on the other hosts: the seats are free (M7)
            w.engines[seat] = Engine(w, seat)
        w.expect_serves(6)
        w.expect_no_fault()


def main():
    global BUILD
    BUILD = os.path.realpath(sys.argv[1])
    run_tests(globals())


if __name__ == "__main__":
    main()
