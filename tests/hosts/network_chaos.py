#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Random faults of ranks, agents, hosts and the network between them, on three hosts of tools/netlab
with two ranks each and an etcd cluster of three, until so many were made or the first violation.

    tests/hosts/network_chaos.py BUILD OUT [FAULTS [SEED]]      200 faults, seed 1

A round is one eep-run with 20 faults, made through eep-ctl under a closed loop of requests. Seed and
round determine what is drawn. After each fault the network is whole again, each dead seat gets a new
process, and the instance must settle within BOUND_S. The oracle checks every token of the round.

OUT/faults.csv has a row for each fault that was drawn, OUT/pauses.csv one for each rank that it
expelled. Exit status: 0 no violation; 1 one, whose round is in OUT; 77 no laboratory here.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import test_run  # noqa: E402
from host_lab import NETLAB, HostLab, leave_out_unless_possible  # noqa: E402
from test_run import HOSTS, PARTS, Laboratory  # noqa: E402

BOUND_S = 120  # to settle; no healthy run comes near it
ROUND = 20     # faults
SEATS = 6
ZEROS = ("tokens_wrong", "digests_wrong", "tokens_missing", "tokens_doubled", "requests_failed", "requests_lost")
UNASKED = ("exit", "killed", "expelled")  # kinds of ends that no fault explains


class Violation(Exception):
    """What was not as it must be."""


class Round:
    def __init__(self, lab, seed, number):
        self.lab, self.random, self.made = lab, random.Random(f"{seed}/{number}"), []
        self.seed = self.random.randrange(1, 10**6)
        self.front = lab.start_front("--serve", "--requests", 10, "--keep-busy", 12, "--seed", self.seed, "--max-seconds", 1200)

    # ------------------------------------------------------------ eep-ctl

    def ctl(self, *words, may_fail=False):
        done = subprocess.run([NETLAB, "--lab", self.lab.lab.name, "run", "h1", f"{test_run.BUILD}/experiments/eep-ctl",
                               "--out", self.lab.out, *words], capture_output=True, text=True, check=False, timeout=BOUND_S + 30)
        if done.returncode and not may_fail:
            raise Violation(f"eep-ctl {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout if done.returncode == 0 else None

    def status(self):
        return json.loads(self.ctl("--json", "status"))

    def settle(self, what):
        """Each seat has a process that serves, and nothing is left to do."""
        end = time.monotonic() + BOUND_S
        while time.monotonic() < end:
            seats = self.status()["seats"]
            dead = [str(seat["seat"]) for seat in seats if seat["state"] == "vacant"]
            for seat in dead:
                self.ctl("rejoin", seat, may_fail=True)
            if all(seat["state"] == "joined" for seat in seats) and self.ctl("wait", "settled", "--timeout", "5", may_fail=True) is not None:
                return
            time.sleep(0.2)
        raise Violation(f"not settled {BOUND_S} s after {what}: {self.ctl('status')}{self.ctl('pending')}")

    # ------------------------------------------------------------ faults

    def sides(self):
        """One host against both others, or against one of them."""
        hosts = [f"h{n}" for n in HOSTS]
        self.random.shuffle(hosts)
        return "|".join([hosts[0], ",".join(hosts[1:self.random.choice((2, 3))])][::self.random.choice((1, -1))])

    def draw(self):
        """The command of eep-ctl, and how long its effect lasts."""
        host, rank = f"h{self.random.choice(HOSTS)}", str(self.random.randrange(SEATS))
        ms = int(1000 * self.random.choice((0.1, 0.5, 1.5, 3)) * self.random.uniform(0.7, 1.3))
        kind = self.random.choices(("kill", "abort", "stop", "host-freeze", "host-kill", "partition", "one-way", "delay",
                                    "reset", "nic-down", "agent-kill"), (14, 4, 10, 10, 7, 16, 12, 8, 7, 8, 4))[0]
        if kind in ("kill", "abort"):
            return (kind, rank), 0
        if kind == "stop":
            return (kind, f"{rank}={ms}ms"), ms
        if kind in ("host-freeze", "nic-down", "agent-kill"):
            return (kind, f"{host}/{ms}ms"), ms
        if kind == "host-kill":
            return (kind, self.random.choice(("h2", "h3"))), 0  # the front is on h1
        if kind == "delay":
            return (kind, f"{self.sides()}:{self.random.choice((1, 5, 20))}/{ms}ms"), ms
        return (kind, f"{self.sides()}/{ms}ms"), ms

    def make_fault(self):
        words, ms = self.draw()
        second = ("kill", str(self.random.randrange(SEATS))) if self.random.random() < 0.2 else None
        self.made.append((self.status()["time_ms"], words, second))
        self.ctl(*words, may_fail=True)
        if second:
            time.sleep(self.random.uniform(0, 0.3))
            self.ctl(*second, may_fail=True)  # it may have ended of the first one
        time.sleep(ms / 1000)
        if words[0] == "host-kill":
            self.ctl("host-start", words[1])
            time.sleep(1)
            self.lab.start_etcd(int(words[1][1:]), "existing")
        self.settle(" and ".join(" ".join(fault) for fault in (words, second) if fault))

    # ------------------------------------------------------------ the end

    def judge(self):
        self.ctl("finish")
        status = self.front.wait(300)
        with open(f"{self.lab.out}/summary.json", encoding="utf-8") as file:
            summary = json.load(file)
        wrong = [f"{name} {summary[name]}" for name in ZEROS if summary[name] != 0]
        wrong += [f"{fault['kind']} of rank {fault['rank']} at {fault['time_ms']:.0f} ms, for which nothing was done"
                  for fault in summary["faults"] if fault["kind"] in UNASKED]
        wrong += [f"nobody went on after {fault['kind']} of rank {fault['rank']} at {fault['time_ms']:.0f} ms"
                  for fault in summary["faults"] if fault["expelled"] and fault["pause_ms"] is None]
        if summary["captures_after_start"]["healthy"]:
            wrong.append("a capture on a healthy rank")
        if status or not summary["good"] or wrong:
            raise Violation(f"status {status}, {summary['reason']}: {'; '.join(wrong)}")
        return summary


def run_round(folder, seed, number, faults):
    """Its rows; a Violation that knows them."""
    with HostLab(3, "--share", folder) as lab:
        laboratory = Laboratory(lab, folder)
        this = Round(laboratory, seed, number)
        try:
            laboratory.await_(laboratory.serves, "serving")
            for _ in range(faults):
                this.make_fault()
            return this, this.judge()
        except (Violation, AssertionError, subprocess.TimeoutExpired, ValueError) as error:
            raise Violation(f"{error}\nfaults of the round: {this.made}\n{laboratory.text()[-4000:]}") from error


def main():
    leave_out_unless_possible()
    if not shutil.which("etcd"):
        print("no etcd here (Debian: etcd-server)")
        sys.exit(77)
    test_run.BUILD, out = os.path.realpath(sys.argv[1]), sys.argv[2]
    total, seed = (int(word) for word in (sys.argv[3:] + ["200", "1"][len(sys.argv) - 3:])[:2])
    os.environ["EEP_WIRE"] = f"{test_run.BUILD}/experiments/eep-wire"
    os.makedirs(out, exist_ok=True)
    head = (f"# machine {os.cpu_count()} cores, Linux {os.uname().release}, load {os.getloadavg()[0]:.1f}\n"
            f"# command tests/hosts/network_chaos.py BUILD OUT {total} {seed}, {test_run.LIMITS}\n")
    num, number, tokens, begin = 0, 0, 0, time.monotonic()
    with open(f"{out}/faults.csv", "w", encoding="utf-8") as drawn, open(f"{out}/pauses.csv", "w", encoding="utf-8") as pauses:
        while num < total:
            number += 1
            folder = f"/dev/shm/eep-chaos-net-{os.getpid()}-{number}"
            os.makedirs(folder)
            try:
                this, summary = run_round(folder, seed, number, min(ROUND, total - num))
            except Violation as error:
                print(f"VIOLATION in round {number} of seed {seed}: {error}", flush=True)
                shutil.copytree(folder, f"{out}/round-{number}", ignore=lambda _, names: [n for n in names if n in ("door", "key", "control.sock")])
                shutil.rmtree(folder)
                sys.exit(1)
            shutil.rmtree(folder)
            if number == 1:
                drawn.write(f"# commit {summary['commit']}\n{head}round,fault,time_ms,what,second\n")
                pauses.write(f"# commit {summary['commit']}\n{head}round,time_ms,{','.join(PARTS)}\n")
            for at, (time_ms, words, second) in enumerate(this.made):
                drawn.write(f"{number},{at + 1},{time_ms:.0f},{' '.join(words).replace(',', '+')},{' '.join(second or ())}\n")
            for fault in summary["faults"]:
                if fault["expelled"]:
                    pauses.write(",".join([str(number), f"{fault['time_ms']:.0f}", *(str(fault[part]) for part in PARTS)]) + "\n")
            drawn.flush()
            pauses.flush()
            num += len(this.made)
            tokens += summary["tokens_emitted"]
            print(f"round {number}: {len(this.made)} faults, {summary['tokens_emitted']} tokens right; {num} faults so far, "
                  f"{time.monotonic() - begin:.0f} s", flush=True)
    print(f"no violation: {num} faults in {number} rounds, {tokens} tokens, 0 wrong, 0 lost, 0 doubled, no hang")


if __name__ == "__main__":
    main()
