#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Agents on hosts of namespaces, whose addresses are found in etcd: ends, silence, dead and stopped
agents, partitions, a lost host. Ranks are tests/hosts/agent_rank.c.

    test_agents.py BUILD [NAME ...]
"""
import contextlib
import json
import os
import queue
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from agent_lab import BOUND_S, HOSTS, STATE, STORE, AgentLab, until  # noqa: E402
from host_lab import HostLab, leave_out_unless_possible, run_tests  # noqa: E402

QUIET_S = 3   # as long nothing may come: three times what a host's silence takes here (agent_rank.c)


class Rank:
    """agent_rank on a host; `signs` are what it hears."""

    def __init__(self, lab, host, seat, others):
        self.host, self.seat = host, seat
        self.child = lab.start(host, "env", f"EEP_KEY_FILE={STATE}/key", f"{BUILD}/tests/agent_rank",
                               f"{STATE}/store", seat, 1, *(f"{other}:1:{lab.lab.name}-{HOSTS[other // 2]}" for other in others))
        self.signs, self.answers = [], queue.Queue()
        self.pid = json.loads(self.child.stdout.readline())["ready"]
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        with contextlib.suppress(ValueError):
            for line in self.child.stdout:
                said = json.loads(line)
                if "sign" in said:
                    self.signs.append((said["seat"], said["sign"]))
                else:
                    self.answers.put(said)

    def tell(self, line):
        self.child.stdin.write(f"{line}\n")
        self.child.stdin.flush()

    def look(self):
        self.tell("look")
        return self.answers.get(timeout=BOUND_S)


class World(AgentLab):
    """Two ranks on each host, all of whom hear each other."""

    def __init__(self, lab):
        super().__init__(lab, BUILD)
        self.ranks = {seat: Rank(self, HOSTS[seat // 2], seat, [o for o in range(6) if o // 2 != seat // 2])
                      for seat in range(6)}
        until(self.all_hear_all, lambda: f"they hear of {[rank.look()['runs'] for rank in self.ranks.values()]}")
        time.sleep(0.3)
        assert not self.heard(), self.heard()

    def all_hear_all(self):
        return all(len(rank.look()["runs"]) == 4 for rank in self.ranks.values())

    def heard(self, by=None):
        return {rank.seat: list(rank.signs) for rank in self.ranks.values()
                if rank.signs and (by is None or rank.host == by)}

    def forget(self):
        for rank in self.ranks.values():
            rank.signs.clear()

    def await_sign(self, seats, sign, by):
        """All ranks of these hosts hear that of all these seats; nobody else hears anything."""
        wanted = {(seat, sign) for seat in seats}
        listeners = [rank for rank in self.ranks.values() if rank.host in by]
        took = until(lambda: all(wanted <= set(rank.signs) for rank in listeners),
                     lambda: f"{wanted} is not heard: {self.heard()}")
        others = {rank.seat: rank.signs for rank in self.ranks.values()
                  if rank.host not in by and rank.signs or any(s not in seats for s, _ in rank.signs)}
        assert not others, f"heard beside {sign} of {seats}: {others}"
        return took

    def expect_quiet(self):
        time.sleep(QUIET_S)
        assert not self.heard(), f"suspected: {self.heard()}"



@contextlib.contextmanager
def world():
    with HostLab(3) as lab:
        yield World(lab)


def test_ends_silence_and_kills():
    with world() as w:
        w.ranks[2].tell("hang")
        took = w.await_sign([2], "silent", ("h1", "h3"))
        w.ranks[2].tell("beat")
        w.await_sign([2], "alive", ("h1", "h3"))
        w.forget()
        print(f"      a rank hangs: silent after {took * 1000:.0f} ms (limit 2000)")
        w.lab.run("h2", "kill", "-9", str(w.ranks[2].pid))
        took = w.await_sign([2], "ended", ("h1", "h3"))
        w.forget()
        print(f"      a rank is killed: its end is known on all hosts after {took * 1000:.0f} ms")
        w.ranks[0].tell("kill 3 1")
        took = w.await_sign([3], "ended", ("h1", "h3"))
        print(f"      a rank is killed by its agent for another host: its end is known after {took * 1000:.0f} ms")


def test_dead_and_stopped_agents_suspect_nobody():
    with world() as w:
        before = w.ranks[2].look()["agent"]
        w.agent_signal("h2", "KILL")
        until(lambda: w.ranks[2].look()["alone"], lambda: "rank 2 does not speak for itself")
        w.expect_quiet()
        assert not w.ranks[0].look()["alone"] and not w.ranks[4].look()["alone"]
        w.ranks[3].tell("hang")  # what nobody says for it shows
        w.await_sign([3], "silent", ("h1", "h3"))
        w.ranks[3].tell("beat")
        w.await_sign([3], "alive", ("h1", "h3"))
        w.forget()
        w.start_agent("h2")
        until(lambda: w.ranks[2].look()["agent"] > before, lambda: "rank 2 has not attached to the next agent")
        w.expect_quiet()
        for host in HOSTS:
            w.agent_signal(host, "STOP")
            w.expect_quiet()
            w.agent_signal(host, "CONT")
            time.sleep(0.5)
        for host in ("h1", "h3"):  # two of three at once: nobody is left who could hear
            w.agent_signal(host, "KILL")
        w.expect_quiet()


def test_a_second_agent_is_refused():
    with world() as w:
        said = w.lab.run("h1", f"{BUILD}/experiments/eep-agent", "--store", STORE, "--listen", "10.77.0.1:7701", "--key",
                         f"{STATE}/key", status=3)
        assert "an agent serves this host" in said, said
        said = w.lab.run("h1", "env", "-u", "EEP_KEY_FILE", f"{BUILD}/experiments/eep-agent", "--store",
                         f"{STATE}/other", "--listen", "10.77.0.1:7701", status=1)
        assert "need a key" in said, said
        w.expect_quiet()


def test_partitions():
    with world() as w:
        for cut_s in (0, 4):  # and a relapse, so long that TCP repeats itself every few seconds only
            w.lab("partition", "h1|h2")
            begin = time.monotonic()
            until(lambda: all(len(set(w.ranks[s].signs)) >= 2 for s in range(4)), lambda: f"heard: {w.heard()}")
            print(f"      h1 and h2 are cut from each other: silent after {(time.monotonic() - begin) * 1000:.0f} ms")
            assert not w.heard("h3"), w.heard("h3")
            assert {seat: set(signs) for seat, signs in w.heard().items()} == {
                **{s: {(2, "silent"), (3, "silent")} for s in (0, 1)}, **{s: {(0, "silent"), (1, "silent")} for s in (2, 3)}}
            w.forget()
            time.sleep(cut_s)
            assert not w.heard(), w.heard()
            w.lab("heal")
            begin = time.monotonic()
            w_all = lambda: all({(o, "alive") for o in ((2, 3) if s < 2 else (0, 1))} <= set(w.ranks[s].signs)
                                for s in range(4))
            until(w_all, lambda: f"heard: {w.heard()}")
            twice = {seat: signs for seat, signs in w.heard().items() if len(signs) != len(set(signs))}
            assert not twice, f"flapping: {twice}"
            print(f"      healed after {cut_s} s: all alive after {(time.monotonic() - begin) * 1000:.0f} ms")
            w.forget()
        w.expect_quiet()


def test_a_lost_host():
    with world() as w:
        for seat in (4, 5):
            del w.ranks[seat]
        begin = time.monotonic()
        w.lab("crash", "h3")
        crashed = time.monotonic()
        w.await_sign([4, 5], "silent", ("h1", "h2"))
        print(f"      a host is lost: silent {(time.monotonic() - crashed) * 1000:.0f} to "
              f"{(time.monotonic() - begin) * 1000:.0f} ms later (limit 1000)")
        assert all(sign == "silent" for signs in w.heard().values() for _, sign in signs), w.heard()


def main():
    global BUILD
    BUILD = os.path.realpath(sys.argv[1])
    os.environ["EEP_WIRE"] = f"{BUILD}/experiments/eep-wire"
    leave_out_unless_possible()
    run_tests(globals())


if __name__ == "__main__":
    main()
