#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Leases at etcd (rule N21). etcd is away for longer than leases last, and costs nothing: six ranks
on three hosts that one machine plays, as in test_instance.py. On hosts of tools/netlab one is lost
for ever, and its seats are taken again elsewhere once its leases have lapsed.

    test_leases.py BUILD [NAME ...]

EEP_TEST_AWAY_S: how long etcd is away, 8. EEP_TEST_AWAY_CSV: a file for the row of that. Exit status 77: this machine lets no laboratory run, or
has no etcd.
"""
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.dont_write_bytecode = True
import test_instance as played  # noqa: E402
import test_rows as rows  # noqa: E402
from host_lab import LACKS, HostLab, free_ports, leave_out_unless_possible, run_tests  # noqa: E402
from test_instance import World  # noqa: E402
from test_rows import Instance  # noqa: E402

LEASE_S = 2  # the shortest that etcd has
LAPSE_S = 2 * LEASE_S
QUOTA_BYTES = 16 << 20
AWAY_S = float(os.environ.get("EEP_TEST_AWAY_S", "8"))
BUILD = None


def encoded(text):
    return base64.b64encode(text.encode()).decode()


class EtcdWorld(World):
    """With etcd in place of a store of ours."""

    def start_store(self):
        self.peers = free_ports(1)[0]
        self.start_etcd()

    def start_etcd(self):
        client, peers = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.peers}"
        self.etcd = subprocess.Popen(["etcd", "--name", "n", "--data-dir", f"{self.folder}/etcd", "--log-level", "fatal",
                                      "--logger", "zap", "--unsafe-no-fsync", "--listen-client-urls", client,
                                      "--advertise-client-urls", client, "--listen-peer-urls", peers,
                                      "--initial-advertise-peer-urls", peers, "--initial-cluster", f"n={peers}",
                                      "--quota-backend-bytes", str(QUOTA_BYTES)],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.children.append(self.etcd)

    def stop_etcd(self):
        self.etcd.kill()
        self.etcd.wait()

    def ask(self, path, **what):
        """An answer of etcd's gateway; None: it refuses."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v3/{path}", json.dumps(what).encode())
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
        return None

    def leases(self):
        """The keys of leases that are there."""
        answer = self.ask("kv/range", key=encoded("eep/k/lease/"), range_end=encoded("eep/k/lease0"), keys_only=True)
        return {base64.b64decode(kv["key"]).decode() for kv in answer.get("kvs", [])}

    def fill(self):
        """Until etcd takes no write any more."""
        junk = encoded("x" * 400000)
        for i in range(QUOTA_BYTES // 300000):
            if self.ask("kv/put", key=encoded(f"junk/{i}"), value=junk) is None:
                return
        raise AssertionError("etcd takes all")

    def empty(self):
        """It takes writes again."""
        answer = self.ask("kv/deleterange", key=encoded("junk/"), range_end=encoded("junk0"))
        self.ask("kv/compaction", revision=answer["header"]["revision"], physical=True)
        self.ask("maintenance/defragment")
        alarms = self.ask("maintenance/alarm", action="GET").get("alarms", [])
        for alarm in alarms:
            self.ask("maintenance/alarm", action="DEACTIVATE", **alarm)

    def store(self, host):
        return f"etcd://127.0.0.1:{self.port}?local={self.folder}/{host}"

    def start_agent(self, host):
        for _ in range(100):  # etcd may not answer yet
            with contextlib.suppress(AssertionError):
                return super().start_agent(host)
            time.sleep(0.1)
        raise AssertionError(f"no agent on {host}")


def keep_row(**row):
    if "EEP_TEST_AWAY_CSV" in os.environ:
        with open(os.environ["EEP_TEST_AWAY_CSV"], "w", encoding="utf-8") as file:
            print(",".join(row), ",".join(f"{value:g}" for value in row.values()), sep="\n", file=file)


@contextlib.contextmanager
def world(lease_s=LEASE_S):
    os.environ["EEP_LEASE_US"] = str(lease_s * 1000000)
    with tempfile.TemporaryDirectory() as folder, EtcdWorld(folder, BUILD) as w:
        yield w


def test_etcd_is_away_for_longer_than_leases_last():
    with world() as w:
        w.expect_no_fault()
        epoch, aborted, begin = w.all("epoch"), w.all("aborted"), {e: len(e.said) for e in w.engines.values()}
        done = w.all("done")
        w.stop_etcd()
        time.sleep(AWAY_S)
        played.until(lambda: all(now > before + 5 * AWAY_S for before, now in zip(done, w.all("done"))),
                     lambda: f"steps: {done} to {w.all('done')}")
        away = w.all("done")
        w.start_etcd()
        time.sleep(LAPSE_S + 3)
        w.expect_serves(6)
        gap = max(said["gap_ms"] for engine, at in begin.items() for said in engine.said[at:])
        lost = sum(w.all("aborted")) - sum(aborted)
        print(f"      etcd was away for {AWAY_S:g} s, leases last {LEASE_S} s: {sum(away) - sum(done)} steps of ranks meanwhile, "
              f"{lost} lost, longest gap {gap} ms, epochs {set(epoch)} and {set(w.all('epoch'))}")
        keep_row(seconds_away=AWAY_S, lease_s=LEASE_S, ranks=6, steps_meanwhile=sum(away) - sum(done), steps_lost=lost,
                 longest_gap_ms=gap, views=max(w.all("epoch")) - min(epoch), left_out=6 - min(w.all("active")))
        assert lost == 0, f"aborted: {aborted} and {w.all('aborted')}"
        assert {said["active"] for engine, at in begin.items() for said in engine.said[at:]} == {6}, "somebody was left out"
        assert all(engine.end is None for engine in w.engines.values())


def test_a_lease_that_a_full_etcd_refused_is_put_again():
    """Else an instance that serves would count as lapsed."""
    with world() as w:
        leases = w.leases()
        assert len(leases) == 6, leases
        w.fill()
        w.ask("kv/deleterange", key=encoded("eep/k/lease/"), range_end=encoded("eep/k/lease0"))
        time.sleep(1)
        assert not w.leases(), "a full etcd took a write"
        w.expect_serves(6)
        w.empty()
        begin = time.monotonic()
        while w.leases() != leases:
            assert time.monotonic() - begin < LAPSE_S + 16, f"etcd takes writes again, and has {w.leases()} of {leases}"
            time.sleep(0.1)
        print(f"      the leases were back {time.monotonic() - begin:.1f} s after etcd took writes again")
        w.expect_serves(6)


def test_no_lease_lapses_while_etcd_is_full():
    """All ranks stand still. Somebody opens, who reads and finds no lease, and waits. When etcd takes writes again,
    he begins to count: the ranks go on before their leases have lapsed for him."""
    lease_s = 4
    with world(lease_s) as w:
        epoch = max(w.all("epoch"))
        w.start_agent("d")
        w.fill()
        for engine in w.engines.values():
            engine.child.send_signal(signal.SIGSTOP)
        w.ask("kv/deleterange", key=encoded("eep/k/lease/"), range_end=encoded("eep/k/lease0"))
        opener = w.start("d", f"{played.ROOT}/tests/hosts/host_engine.py", f"{BUILD}/libeep.so", EEP_RANK="0", EEP_SIZE="6",
                         EEP_STORE=w.store("d"), EEP_NETWORK="tcp", EEP_BULK="ucx", EEP_RANKS_PER_NODE="2",
                         EEP_LAB_CONFIG=played.LIMITS)
        time.sleep(lease_s)
        assert opener.poll() is None, "it has given up"
        w.empty()
        time.sleep(1.4 * lease_s)  # he has seen no lease for longer than two by now; the ranks have what is left of two
        for engine in w.engines.values():
            engine.child.send_signal(signal.SIGCONT)
        assert opener.wait(played.BOUND_S) != 0, "a seat of a rank that lives was taken"
        w.expect_serves(6)
        assert max(w.all("epoch")) < epoch + 12 and all(engine.end is None for engine in w.engines.values())


@contextlib.contextmanager
def laboratory():
    """Three hosts with two ranks each, and a fourth."""
    folder = f"/dev/shm/eep-test-leases-{os.getpid()}"
    os.makedirs(folder)
    try:
        with HostLab(4, "--share", folder) as lab:
            instance = Instance(lab, 2, folder, {"EEP_LEASE_US": LEASE_S * 1000000})
            yield lab, instance
    finally:
        shutil.rmtree(folder)


def await_seats(instance, hosts, wanted, **more):
    """Ranks in these seats, a process after the other until each has said what is wanted; their launchers do not
    give up. How long that took."""
    begin = time.monotonic()
    heard = {seat: instance.start(seat, host, **more) for seat, host in hosts.items()}
    while not all(any(wanted(line) for line in rank.said) for rank in heard.values()):
        for seat, rank in heard.items():
            if not rank.listen(0.05):
                assert "holds the seat" in rank.story() or "takes no connection" in rank.story(), rank.story()
                rank.close()
                heard[seat] = instance.start(seat, hosts[seat], **more)
        assert time.monotonic() - begin < rows.BOUND_S, "\n".join(rank.story() for rank in heard.values())
    instance.rank.update(heard)
    return time.monotonic() - begin


def test_an_instance_begins_again_over_a_host_that_is_lost():
    with laboratory() as (lab, instance):
        instance.agents.append(instance.start_agent("h4", "10.77.0.4:7701"))
        lab("crash", "h3")
        for host in ("h1", "h2"):  # before they have agreed to leave the lost ones out
            lab.run(host, "pkill", "-KILL", "-f", f"^{rows.PROGRAM}$")
        instance.lose(range(6))
        took = await_seats(instance, {seat: instance.host(seat) if seat < 4 else "h4" for seat in range(6)},
                           lambda line: line.get("with") == 6)
        print(f"      it serves again {took:.1f} s after its last rank was killed; {instance.end()}")


def test_a_claim_on_a_host_that_is_lost():
    with laboratory() as (lab, instance):
        instance.agents.append(instance.start_agent("h4", "10.77.0.4:7701"))
        instance.forget()
        instance.signal(5, signal.SIGKILL.value)  # both ranks of its host
        instance.lose([4, 5])
        for rank in instance.rank.values():
            rank.await_view(4)
        await_seats(instance, {5: "h4"}, lambda line: "claimed" in line, EEP_TEST_CLAIMS=1)
        lab("crash", "h4")
        instance.lose([5])
        took = await_seats(instance, {4: "h3", 5: "h3"}, lambda line: line.get("with") == 6)
        print(f"      it serves with the seat {took:.1f} s after the host was lost; {instance.end()}")


def test_two_machines_with_one_name():
    with laboratory() as (lab, instance):
        agent = lab.run("h4", "env", f"EEP_HOST_ID={lab.name}-h1", rows.AGENT, "--store", instance.store, "--listen",
                        "10.77.0.4:7702", "--key", instance.key, status=None)
        assert "an agent runs on another machine" in agent, agent
        twin = instance.start(5, "h4", EEP_HOST_ID=f"{lab.name}-h1")
        assert twin.child.wait(rows.BOUND_S) != 0, twin.story()  # once the other's lease has outlasted two of its length
        while twin.listen(0):
            pass
        assert "EEP_HOST_ID of its own" in twin.story(), twin.story()
        twin.close()
        print(f"      it is refused by name; {instance.end()}")


def main():
    global BUILD
    leave_out_unless_possible()
    if not shutil.which("etcd"):
        print("no etcd here (Debian: etcd-server)")
        sys.exit(LACKS)
    BUILD = played.BUILD = os.path.realpath(sys.argv[1])
    rows.use(BUILD)
    run_tests(globals())


if __name__ == "__main__":
    main()
