#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Rows over the network between hosts of tools/netlab, with a key, and the store at etcd: each row
of each step and of each small collective is right, through the kill of a rank, its return, a
stopped rank and a lost host.

    tests/hosts/test_rows.py BUILD [NAME...]      only the tests whose names contain one

Exit status 77: this machine lets no laboratory run, or has no etcd.
"""
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from host_lab import NETLAB, HostLab, leave_out_unless_possible  # noqa: E402

PROGRAM = AGENT = None
BOUND_S = 120  # of waits for what must come; no healthy run comes near it
# On a busy machine a host that is well may not run for 200 ms; a rank that is stopped is found in time.
LIMITS = "host_silence_us=1000000,expel_floor_us=10000000,step_deadline_us=10000000,drain_bound_us=10000000"


class Rank:
    """A process of host_rank.c on a host."""

    def __init__(self, lab, host, rank, size, store, key, more=None):
        self.name, self.said = f"rank {rank} on {host}", []
        environment = {"EEP_RANK": rank, "EEP_SIZE": size, "EEP_STORE": store,
                       "EEP_KEY_FILE": key, "EEP_NETWORK_INTERFACE": "fabric0", "EEP_LAB_CONFIG": LIMITS, **(more or {})}
        words = [f"{name}={value}" for name, value in environment.items()]
        self.log = open(f"/tmp/eep-test-rows-{os.getpid()}-{host}-{rank}", "w+", encoding="utf-8")
        self.child = subprocess.Popen([NETLAB, "--lab", lab.name, "run", host, "env", *words, PROGRAM],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.bytes = ""

    def listen(self, seconds):
        """False: it says nothing any more."""
        if not select.select([self.child.stdout], [], [], seconds)[0]:
            return True
        text = os.read(self.child.stdout.fileno(), 4096).decode()
        *lines, self.bytes = (self.bytes + text).split("\n")
        self.said += [json.loads(line) for line in lines]
        return text != ""

    def await_(self, wanted, what):
        """A line that `wanted` is true for."""
        end = time.monotonic() + BOUND_S
        while time.monotonic() < end:
            for line in self.said:
                if wanted(line):
                    return line
            if not self.listen(0.2):
                break
        raise AssertionError(f"{what} never came: {self.story()}")

    def logged(self):
        self.log.seek(0)
        return self.log.read()

    def await_log(self, words):
        end = time.monotonic() + BOUND_S
        while words not in self.logged():
            assert time.monotonic() < end, f"'{words}' never came: {self.story()}"
            time.sleep(0.05)

    def story(self):
        return f"{self.name} said {self.said[-20:]}\n{self.logged()[-6000:]}"

    def await_collective(self):
        """One has ended well since it joined: a rank that joined just now may have had no time for one."""
        self.await_(lambda line: line.get("collectives", 0) > 0, "a collective")

    def await_view(self, num):
        return self.await_(lambda line: line.get("with") == num, f"a step with {num} ranks")

    def forget(self):
        self.said = []

    def end(self):
        """It has been told to; it ends in order, and no row was wrong."""
        ended = self.await_(lambda line: "ended" in line, "its end")
        assert ended["wrong"] == 0, f"{self.name}: {ended}"
        assert ended["collectives"] > 0, f"{self.name}: {ended}"
        assert self.child.wait(BOUND_S) == 0, self.name
        self.close()
        return ended

    def close(self):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()
        self.log.close()
        os.unlink(self.log.name)


class Instance:
    """Ranks of three hosts, one or two each, and etcd on the first. `net`: of etcd and agents, 77 or 78."""

    def __init__(self, lab, ranks_per_host, folder, more=None, net=77):
        self.lab, self.size, self.per_host, self.more = lab, 3 * ranks_per_host, ranks_per_host, more or {}
        address = f"10.{net}.0.1"
        self.store = f"etcd://{address}:2379?local=/run/eep-state/eep"
        self.key = f"{folder}/key"
        with open(self.key, "w", encoding="utf-8") as file:
            file.write(os.urandom(32).hex() + "\n")
        os.chmod(self.key, 0o600)
        self.etcd = subprocess.Popen([NETLAB, "--lab", lab.name, "run", "h1", "etcd", "--data-dir", f"{folder}/etcd",
                                      "--log-level", "fatal", "--logger", "zap",
                                      "--listen-client-urls", f"http://{address}:2379",
                                      "--advertise-client-urls", f"http://{address}:2379"],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.agents = [self.start_agent(f"h{number}", f"10.{net}.0.{number}:7701") for number in (1, 2, 3)]
        self.rank = {seat: self.start(seat) for seat in range(self.size)}
        for seat in self.rank:
            self.rank[seat].await_view(self.size)

    def start_agent(self, host, address):
        end = time.monotonic() + BOUND_S
        while time.monotonic() < end:  # etcd may not answer yet
            agent = subprocess.Popen([NETLAB, "--lab", self.lab.name, "run", host, AGENT, "--store", self.store,
                                      "--listen", address, "--key", self.key],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if "ready" in agent.stdout.readline():
                return agent
            agent.wait()
        raise AssertionError(f"no agent on {host}")

    def host(self, seat):
        return f"h{1 + seat // self.per_host}"

    def start(self, seat, host=None, **more):
        return Rank(self.lab, host or self.host(seat), seat, self.size, self.store, self.key, {**self.more, **more})

    def forget(self):
        for rank in self.rank.values():
            rank.forget()

    def end(self):
        for rank in self.rank.values():
            rank.await_collective()
        for rank in self.rank.values():
            rank.child.stdin.close()
        ended = [rank.end() for rank in self.rank.values()]
        for child in [*self.agents, self.etcd]:
            child.kill()
            child.wait()
        return ended

    def signal(self, seat, number):
        """To the rank itself, which is a grandchild of netlab's."""
        assert self.lab.run(self.host(seat), "pkill", f"-{number}", "-f", f"^{PROGRAM}$", status=None) is not None

    def lose(self, seats):
        for seat in seats:
            self.rank.pop(seat).close()


def kill_and_return(lab, folder, **more):
    """A rank is killed, the others go on without it, and it comes back."""
    instance = Instance(lab, 1, folder, more)
    instance.forget()
    instance.signal(2, signal.SIGKILL.value)
    began = time.monotonic()
    instance.lose([2])
    for rank in instance.rank.values():
        rank.await_view(2)
    pause = time.monotonic() - began
    instance.forget()
    instance.rank[2] = instance.start(2)
    for rank in instance.rank.values():
        rank.await_view(3)
    return f"steps with 2 ranks after {1000 * pause:.0f} ms; {instance.end()}"


def any_free_seat_is_taken_from_another_host(lab, folder):
    """A rank is killed, and a process of another host, which knows no seat, takes its place."""
    instance = Instance(lab, 1, folder)
    instance.forget()
    instance.signal(2, signal.SIGKILL.value)
    instance.lose([2])
    for rank in instance.rank.values():
        rank.await_view(2)
    instance.forget()
    instance.rank[2] = instance.start("any", "h2")
    assert instance.rank[2].await_(lambda line: "joined" in line, "its join")["joined"] == 2
    for rank in instance.rank.values():
        rank.await_view(3)
    return instance.end()


def an_interface_that_was_forgotten_is_named(lab, folder):
    """A rank that wants its rows at its loopback address is not reached by others, and they say so."""
    instance = Instance(lab, 1, folder)
    instance.signal(2, signal.SIGKILL.value)
    instance.lose([2])
    for rank in instance.rank.values():
        rank.await_view(2)
    instance.more = {"EEP_NETWORK_INTERFACE": "lo"}
    forgetful = instance.start(2)
    for words in ("rank 2 (generation 2) lives on another host, and wants its rows at 127.0.0.1:", "set EEP_NETWORK_INTERFACE there"):
        instance.rank[0].await_log(words)
    instance.signal(2, signal.SIGKILL.value)
    forgetful.close()
    return instance.end()


def kill_and_return_over_ucx(lab, folder):
    """The same, with rows over UCX."""
    return kill_and_return(lab, folder, EEP_NETWORK="ucx")


def a_stopped_rank_is_left_out(lab, folder, **more):
    """A rank that stops is silent, and the others go on without it."""
    instance = Instance(lab, 1, folder, more)
    instance.forget()
    instance.signal(1, signal.SIGSTOP.value)
    for seat in (0, 2):
        instance.rank[seat].await_view(2)
    instance.signal(1, signal.SIGKILL.value)
    instance.lose([1])
    return instance.end()


def a_stopped_rank_is_left_out_over_ucx(lab, folder):
    """The same, with rows over UCX."""
    return a_stopped_rank_is_left_out(lab, folder, EEP_NETWORK="ucx")


def a_host_is_lost(lab, folder, **more):
    """Both ranks of a host end without a word: its power is gone."""
    instance = Instance(lab, 2, folder, more)
    instance.forget()
    lab("crash", "h3")
    began = time.monotonic()
    instance.lose([4, 5])
    for rank in instance.rank.values():
        rank.await_view(4)
    pause = time.monotonic() - began
    return f"steps with 4 ranks after {1000 * pause:.0f} ms; {instance.end()}"


def a_host_is_lost_over_ucx(lab, folder):
    """The same, with rows over UCX."""
    return a_host_is_lost(lab, folder, EEP_NETWORK="ucx")


def expect_steps(instance, seconds):
    """Each rank steps while all stays as it is: for so long, and until it has said so twice, since what it says first
    may be of a step that began before. The fewest steps of a rank."""
    heard = {}
    for rank in instance.rank.values():
        while select.select([rank.child.stdout], [], [], 0)[0] and rank.listen(0):
            pass
        heard[rank] = len(rank.said)
    until, end = time.monotonic() + seconds, time.monotonic() + BOUND_S
    while time.monotonic() < until or any(len(rank.said) < num + 2 for rank, num in heard.items()):
        assert time.monotonic() < end, "\n".join(rank.story() for rank in heard)
        for rank in heard:
            assert rank.listen(0.02), rank.story()
    return min(rank.said[-1]["steps"] - rank.said[num]["steps"] for rank, num in heard.items())


def an_interface_that_flaps_costs_no_row(lab, folder, **more):
    """An interface of one host goes down and comes up, again and again, and then the switch behind all of them fails.
    Rows take the other interface and come back; no rank is left out, and each step goes on."""
    instance = Instance(lab, 1, folder, {"EEP_NETWORK_INTERFACE": "fabric0,outside0", **more}, net=78)
    joined = {rank: rank.await_view(3) for rank in instance.rank.values()}
    steps = []
    for flap in range(4):
        host = f"h{1 + flap % 3}"
        for state, seconds in (("down", 0.7), ("up", 1.0)):
            lab.run(host, "ip", "link", "set", "fabric0", state)
            steps.append(expect_steps(instance, seconds))
    for pair in ("h1|h2,h3", "h2|h3"):
        lab("partition", pair, "--net", "fabric")
    expect_steps(instance, 2)
    lab("heal")
    expect_steps(instance, 1)
    for rank in instance.rank.values():
        assert all(line.get("with", 3) == 3 for line in rank.said[rank.said.index(joined[rank]):]), rank.story()
        rank.await_log("it goes from fabric0 to outside0")
        rank.await_log("it goes from outside0 to fabric0")
    longest = max(line.get("longest_us", 0) for rank in instance.rank.values() for line in rank.said)
    return f"at least {min(steps)} steps while it was down or up, the longest {longest / 1000:.0f} ms; {instance.end()}"


def an_interface_that_flaps_costs_no_row_over_ucx(lab, folder):
    """The same, with rows over UCX."""
    return an_interface_that_flaps_costs_no_row(lab, folder, EEP_NETWORK="ucx")


def a_hung_rank_is_killed_though_the_proposer_has_ended(lab, folder):
    """A rank hangs alone on a host that is cut off. The rank that left it out ends; another one asks for the kill."""
    limits = LIMITS.replace("host_silence_us=1000000", "host_silence_us=3000000")  # agents have given the connections up
    instance = Instance(lab, 1, folder, {"EEP_LAB_CONFIG": limits})
    instance.forget()
    lab("partition", "h3|h1,h2", "--net", "fabric")
    instance.signal(2, signal.SIGSTOP.value)
    for seat in (0, 1):
        instance.rank[seat].await_view(2)
    instance.forget()
    instance.signal(0, signal.SIGKILL.value)
    instance.rank[1].await_view(1)
    instance.lose([0])
    lab("heal")
    began = time.monotonic()
    hung = instance.rank.pop(2)
    assert hung.child.wait(BOUND_S) != 0, hung.story()
    hung.close()
    return f"killed {time.monotonic() - began:.1f} s after its host was reached again; {instance.end()}"


def a_cut_between_two_hosts_costs_one_of_them(lab, folder):
    """Two hosts do not reach each other any more. Both reach the third: it serves on with one of them."""
    instance = Instance(lab, 1, folder)
    instance.forget()
    lab("partition", "h2|h3", "--net", "fabric")
    instance.rank[0].await_view(2)
    until, out = time.monotonic() + BOUND_S, [1, 2]
    while len(out) == 2 and time.monotonic() < until:
        for seat in out:
            instance.rank[seat].listen(0.1)
        out = [seat for seat in out if not any(line.get("with") == 2 for line in instance.rank[seat].said)]
    assert len(out) == 1, "\n".join(rank.story() for rank in instance.rank.values())
    assert instance.rank[0].said[-1]["with"] == 2, instance.rank[0].story()
    instance.lose(out)
    return instance.end()


def rows_that_travel_long_are_right(lab, folder):
    """Frames between two hosts take 5 ms longer, and some 5 ms more: steps are slow, and all are right."""
    instance = Instance(lab, 1, folder)
    lab("delay", "h2", "h3", 5, "--jitter", 5, "--net", "fabric")
    time.sleep(2)
    for rank in instance.rank.values():
        rank.listen(0)
        assert rank.said[-1]["with"] == 3, rank.story()
    return instance.end()


TESTS = [kill_and_return, kill_and_return_over_ucx, any_free_seat_is_taken_from_another_host,
         an_interface_that_was_forgotten_is_named, a_stopped_rank_is_left_out, a_stopped_rank_is_left_out_over_ucx,
         a_host_is_lost, a_host_is_lost_over_ucx, a_hung_rank_is_killed_though_the_proposer_has_ended,
         a_cut_between_two_hosts_costs_one_of_them,
         rows_that_travel_long_are_right, an_interface_that_flaps_costs_no_row,
         an_interface_that_flaps_costs_no_row_over_ucx]


def use(build):
    """The programs of that build."""
    global PROGRAM, AGENT
    PROGRAM = os.path.realpath(os.path.join(build, "tests/host_rank"))
    os.environ["EEP_WIRE"] = os.path.realpath(os.path.join(build, "experiments/eep-wire"))
    AGENT = os.path.realpath(os.path.join(build, "experiments/eep-agent"))


def main():
    leave_out_unless_possible()
    if not shutil.which("etcd"):
        print("no etcd here (Debian: etcd-server)")
        sys.exit(77)
    use(sys.argv[1])
    for test in TESTS:
        if len(sys.argv) > 2 and not any(name in test.__name__ for name in sys.argv[2:]):
            continue
        folder = f"/dev/shm/eep-test-rows-{os.getpid()}"
        os.makedirs(folder)
        try:
            begin = time.monotonic()
            with HostLab(3, "--share", folder) as lab:
                print(f"{test.__name__}: {test(lab, folder)} ({time.monotonic() - begin:.1f} s)", flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
