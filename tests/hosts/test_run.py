#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""eep-run over three or four hosts of tools/netlab, two ranks each, with a key and an etcd cluster of three:
ranks, agents, hosts and the network between them fail, and the oracle finds every token right.

    tests/hosts/test_run.py BUILD [NAME...] [--rows FILE]      only the tests whose names contain one;
                   a row for each fault that expelled a rank, with the parts of its pause, into FILE,
                   beside what a compare-and-swap at etcd took from the first host in that test

Exit status 77: this machine lets no laboratory run, or has no etcd.
"""
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from host_lab import NETLAB, HostLab, leave_out_unless_possible  # noqa: E402
from lab_door import open_door  # noqa: E402

HERE = os.path.dirname(os.path.realpath(__file__))
BOUND_S = 240  # of a run; no healthy one comes near it
HOSTS = (1, 2, 3)
STORE = "etcd://" + ",".join(f"10.78.0.{n}:2379" for n in HOSTS) + "?local=/run/eep-state/eep"
# On a busy machine a host that is well may not run for 200 ms.
LIMITS = "host_silence_us=1000000"
LOAD = ("--requests", 60, "--rate", 30, "--keep-busy", 8)
PARTS = ("kind", "rank", "pause_ms", "detect_ms", "agree_ms", "repair_ms", "rerun_ms", "survivors", "expelled",
         "weights_bytes_in_pause")
BUILD = None


def etcd_words(number):
    """The server of a host; what its folder has from before counts. `number` may be the shell's."""
    own = f"10.78.0.{number}"
    cluster = ",".join(f"h{n}=http://10.78.0.{n}:2380" for n in HOSTS)
    return ["etcd", "--name", f"h{number}", "--data-dir", "/run/eep-state/etcd", "--log-level", "fatal", "--logger", "zap",
            "--listen-client-urls", f"http://{own}:2379", "--advertise-client-urls", f"http://{own}:2379",
            "--listen-peer-urls", f"http://{own}:2380", "--initial-advertise-peer-urls", f"http://{own}:2380",
            "--initial-cluster", cluster, "--initial-cluster-state", "new"]


class Laboratory:
    """Hosts with etcd, a key and a door; the front runs on one of them."""

    def __init__(self, lab, folder):
        self.lab, self.folder, self.etcd, self.fronts = lab, folder, {}, 0
        self.hosts = range(1, lab.hosts + 1)
        self.key = f"{folder}/key"
        with open(self.key, "w", encoding="utf-8") as file:
            file.write(os.urandom(32).hex() + "\n")
        os.chmod(self.key, 0o600)
        self.door = open_door(f"{folder}/door", [NETLAB, "--lab", lab.name])
        for number in HOSTS:
            self.start_etcd(number)
        clock = start_clock(lab)  # it says when a write was answered: ranks wait for a store for a few seconds only
        assert select.select([clock.stdout], [], [], BOUND_S)[0], "etcd does not answer"
        clock.kill()
        clock.communicate()
        self.write_hosts()

    def start_etcd(self, number):
        self.etcd[number] = subprocess.Popen([NETLAB, "--lab", self.lab.name, "run", f"h{number}", *etcd_words(number)],
                                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def write_hosts(self, heal_after_s=0, limits=LIMITS, stores=None):
        """`stores`: the addresses of hosts that have one of their own."""
        door = f"/usr/bin/python3 {HERE}/lab_door.py {self.folder}/door"
        hosts = [{"name": f"h{n}", "address": f"10.78.0.{n}:7800", "agent": f"10.77.0.{n}:7700", "ranks": 2,
                  "start": f"{door} run h{n} env EEP_KEY_FILE={self.key} {BUILD}/experiments/eep-run --worker 10.78.0.{n}:7800",
                  "environment": {"EEP_NETWORK_INTERFACE": "fabric0", "EEP_BULK_INTERFACE": "fabric0",
                                  "EEP_LAB_CONFIG": limits},
                  **({"store": stores[f"h{n}"]} if f"h{n}" in (stores or {}) else {})} for n in self.hosts]
        etcd = " ".join(etcd_words("${HOSTS#h}"))
        commands = {"partition": f'{door} partition "$HOSTS|$OTHERS" --net fabric',
                    "one-way": f'{door} one-way "$HOSTS" "$OTHERS" --net fabric',
                    "delay": f'{door} delay "$HOSTS" "$OTHERS" "$MS" --net fabric',
                    "reset": f'{door} reset "$HOSTS" "$OTHERS" --net fabric',
                    "heal": f'sleep {heal_after_s}; if [ "$HOSTS" ]; then {door} heal --between "$HOSTS" "$OTHERS"; else {door} heal; fi',
                    "nic-down": f'{door} run "$HOSTS" ip link set fabric0 down',
                    "nic-up": f'{door} run "$HOSTS" ip link set fabric0 up',
                    "host-kill": f'{door} crash "$HOSTS"', "host-start": f'{door} boot "$HOSTS" && {door} run "$HOSTS" sh -c "{etcd} >/dev/null 2>&1 &"'}
        with open(f"{self.folder}/hosts.yaml", "w", encoding="utf-8") as file:
            json.dump({"hosts": hosts, "commands": commands}, file)

    def start_front(self, *options, host="h1"):
        """An eep-run on that host, in a folder of its own below the shared one."""
        self.fronts += 1
        self.out = f"{self.folder}/out{self.fronts}"
        self.log = open(f"{self.folder}/log{self.fronts}", "w", encoding="utf-8")
        return subprocess.Popen(
            [NETLAB, "--lab", self.lab.name, "run", host, "env", f"EEP_KEY_FILE={self.key}", f"{BUILD}/experiments/eep-run",
             "--hosts", f"{self.folder}/hosts.yaml", "--store", STORE, "--slots", "32", "--no-picture", "--quiet",
             "--out", self.out, *map(str, options)],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)

    def chaos(self, out, *options, **how):
        """eep-chaos on the first host, to its end."""
        return subprocess.run(
            [NETLAB, "--lab", self.lab.name, "run", "h1", "env", f"EEP_KEY_FILE={self.key}", f"{BUILD}/experiments/eep-chaos",
             "--hosts", f"{self.folder}/hosts.yaml", "--out", out, *map(str, options), "--", "--store", STORE, "--slots", "32"],
            stdin=subprocess.DEVNULL, check=False, **how)

    def text(self):
        with open(self.log.name, encoding="utf-8") as file:
            return file.read()

    def ctl(self, *words):
        return self.lab.run("h1", f"{BUILD}/experiments/eep-ctl", "--out", self.out, *words)

    def await_(self, holds, what):
        end = time.monotonic() + BOUND_S
        while not holds():
            assert time.monotonic() < end, f"{what} never came\n{self.text()}"
            time.sleep(0.1)

    def serves(self):
        """The front has its socket, and all ranks serve."""
        done = subprocess.run([NETLAB, "--lab", self.lab.name, "run", "h1", f"{BUILD}/experiments/eep-ctl", "--out", self.out,
                               "wait", "settled", "--timeout", "30"], capture_output=True, check=False)
        return done.returncode == 0

    def vacant(self):
        return [str(seat["seat"]) for seat in json.loads(self.ctl("--json", "status"))["seats"] if seat["state"] == "vacant"]

    def num_ranks(self, host):
        """Processes of ranks that live there."""
        return int(self.lab.run(host, "pgrep", "-fc", "^eep-run --rank-process", status=None).split()[0])

    def run(self, *options, host="h1"):
        """A run to its end, good by all that it checks. Its summary. A run ends with its requests, and not before
        something is done behind the last return of each rank: on a fast machine it would end first."""
        words, returns = [str(option) for option in options], {}
        for option, what in zip(words, words[1:]):
            if option == "--rejoin":
                for seat in re.split("[=@]", what)[0].split(","):
                    returns[seat] = returns.get(seat, 0) + 1
        for seat, times in returns.items():
            words += ["--dummy-burn", f"0.05@joined:{seat}#{times}"]
        summary = self.end(self.start_front(*words, host=host))
        assert summary["script"]["never_due"] == summary["script"]["waiting"] == 0, f"{summary['script']}\n{self.text()}"
        return summary

    def end(self, front):
        try:
            status = front.wait(BOUND_S)
        except subprocess.TimeoutExpired:
            front.kill()
            status = "none: it hangs"
        assert status == 0 and "GOOD: nothing wrong, nothing lost" in self.text(), f"status {status}\n{self.text()}"
        with open(f"{self.out}/summary.json", encoding="utf-8") as file:
            summary = json.load(file)
        assert all(join["joined"] for join in summary["joins"]), f"{summary['joins']}\n{self.text()}"
        return summary


def ranks_and_an_agent_die_and_a_rank_stops(lab):
    """Each rank comes back. Without an agent ranks speak for themselves: nobody is left out for it."""
    summary = lab.run(*LOAD, "--kill", "2@0.5", "--rejoin", "2@1", "--agent-kill", "h2/1@joined:2+300ms",
                      "--kill", "3@joined:2+2", "--rejoin", "3@exited:3+300ms", "--stop", "1@joined:3+300ms",
                      "--rejoin", "1@exited:1+300ms")
    assert [(fault["kind"], fault["rank"]) for fault in summary["faults"]] == [("kill", 2), ("kill", 3), ("stop", 1)], \
        summary["faults"]
    return summary


def hosts_stand_still_and_lose_power(lab):
    """Their ranks are left out. They come back when one host goes on, and the other has booted."""
    return lab.run(*LOAD, "--host-freeze", "h2@0.5", "--host-cont", "h2@expelled#2+300ms", "--rejoin", "2,3@exited:3+500ms",
                   "--host-kill", "h3@joined:3+500ms", "--host-start", "h3@expelled:5+500ms",
                   "--rejoin", "4,5@exited:5+1500ms")


def the_etcd_that_ranks_ask_is_lost_with_another_host(lab):
    """Those of h1 ask etcd on h3, which loses its power. They notice that before an answer is late, ask another one, and
    report within the drain bound: h3's ranks alone are left out."""
    address = "etcd://10.78.0.3:2379,10.78.0.1:2379,10.78.0.2:2379?local=/run/eep-state/eep&timeout-ms=20000"
    lab.write_hosts(stores={"h1": address}, limits=f"{LIMITS},expel_floor_us=8000000,step_deadline_us=8000000,drain_bound_us=8000000")
    summary = lab.run(*LOAD, "--host-kill", "h3@1", "--dummy-burn", "0.05@expelled:5")
    assert {fault["rank"] for fault in summary["faults"]} == {4, 5}, summary["faults"]
    return summary


def ranks_come_back_on_another_host(lab):
    """Both ranks of a lost host get new processes on the two others, in the same seats."""
    return lab.run(*LOAD, "--host-kill", "h3@1", "--rejoin", "4=h1@expelled:4+1", "--rejoin", "5=h2@expelled:5+1")


def a_partition_a_dead_interface_and_a_one_way_drop(lab):
    """h3 is cut from both others, each time in another way, until its ranks are left out. They come back."""
    return lab.run(*LOAD, "--partition", "h1,h2|h3@0.5", "--heal", "@expelled#2+300ms", "--rejoin", "4,5@exited#2+1500ms",
                   "--nic-down", "h3@joined#2+500ms", "--nic-up", "h3@expelled#4+300ms", "--rejoin", "4,5@exited#4+1500ms",
                   "--one-way", "h1,h2|h3@joined#4+500ms", "--heal", "@expelled#6+300ms", "--rejoin", "4,5@exited#6+1500ms")


def what_eep_ctl_asks_for_is_done(lab):
    """Delays and resets while it serves; what cannot be is refused by name. It is settled once commands have ended."""
    lab.write_hosts(heal_after_s=1)
    front = lab.start_front("--serve", "--keep-busy", 8, "--requests", 20)
    lab.await_(lab.serves, "serving")
    assert "no host of" in lab.lab.run("h1", f"{BUILD}/experiments/eep-ctl", "--out", lab.out, "host-kill", "h9", status=1)
    lab.ctl("delay", "h1|h2:2/1")
    lab.ctl("reset", "h2|h3/0.3")
    lab.ctl("agent-kill", "h1")
    lab.ctl("agent-start", "h1")
    lab.ctl("wait", "settled", "--timeout", BOUND_S // 2)
    assert f"{lab.lab.name}: 3 hosts, 0 faults" in lab.lab("list"), "it is settled before the network is whole"
    lab.ctl("finish")
    return lab.end(front)


def a_worker_dies_and_is_started_again(lab):
    """Its ranks end with it and count as killed; the front starts another one, and ranks on it."""
    front = lab.start_front("--serve", "--keep-busy", 8, "--requests", 20)
    lab.await_(lab.serves, "serving")
    lab.lab.run("h3", "pkill", "-KILL", "-f", "^[^ ]*eep-run --worker")
    lab.await_(lambda: lab.vacant() == ["4", "5"], "the end of its ranks")
    lab.ctl("rejoin", "4,5")
    lab.await_(lab.serves, "the ranks' return")
    lab.ctl("finish")
    summary = lab.end(front)
    assert "host h3: the connection to its worker is lost" in lab.text(), lab.text()
    return summary


def a_front_is_killed_and_another_goes_on(lab):
    """Its ranks end within the bound, and the next one goes on with the same instance at once."""
    front = lab.start_front("--requests", 100000, "--keep-busy", 8)
    lab.await_(lab.serves, "serving")
    epoch = json.loads(lab.ctl("--json", "status"))["epoch"]
    lab.lab.run("h1", "pkill", "-KILL", "-f", "^[^ ]*eep-run --hosts")
    front.wait(BOUND_S)
    begin = time.monotonic()
    summary = lab.run("--requests", 40)
    print(f"the next front had served {time.monotonic() - begin:.1f} s after the end of the first", flush=True)
    with open(f"{lab.out}/events.csv", encoding="utf-8") as file:
        views = [int(line.split(",")[6]) for line in file if line.split(",")[3:4] == ["view"]]
    assert views[-1] > epoch, f"the next front has begun another instance: epoch {views[-1]} after {epoch}"
    return summary


def the_host_of_a_front_dies(lab):
    """The other hosts hear nothing of it: their ranks end within 5 s and 5 s more. A front on
    another host goes on once the first host is back."""
    front = lab.start_front("--requests", 100000, "--keep-busy", 8)
    lab.await_(lab.serves, "serving")
    lab.lab("crash", "h1")
    begin = time.monotonic()
    front.wait(BOUND_S)
    looks = []

    def nobody_is_left():
        looks.append(time.monotonic())  # a look may take longer than the bound allows
        return lab.num_ranks("h2") + lab.num_ranks("h3") == 0

    lab.await_(nobody_is_left, "the end of all ranks")
    took = looks[-1] - begin
    assert took < 12, f"ranks lived for {took:.1f} s without a front"
    print(f"all ranks ended {took:.1f} s after the front's host", flush=True)
    lab.lab("boot", "h1")
    lab.start_etcd(1)
    return lab.run("--requests", 40, host="h2")


def four_hosts_are_cut_in_halves(lab):
    """Each half reaches etcd, and one of them goes on alone."""
    front = lab.start_front("--serve", *LOAD)
    lab.await_(lab.serves, "serving")
    lab.ctl("partition", "h1,h2|h3,h4")
    lab.await_(lambda: len(lab.vacant()) == 4, "the end of one half")
    lab.ctl("heal")
    lab.await_(lambda: lab.serves() and not lab.ctl("pending").count("--"), "the end of the partition")
    lab.ctl("rejoin", ",".join(lab.vacant()))
    lab.await_(lambda: lab.serves() and not lab.vacant(), "the return of that half")
    lab.ctl("finish")
    summary = lab.end(front)
    assert len({fault["rank"] // 4 for fault in summary["faults"] if fault["expelled"]}) == 1, summary["faults"]
    return summary


def runs_are_repeated(lab):
    """Each has other weights, and begins an instance of its own in the same store."""
    front = lab.start_front("--repeat", 2, "--requests", 10, "--kill", "2@0.5", "--rejoin", "2@1")
    assert front.wait(BOUND_S) == 0 and "2 of 2 runs met" in lab.text(), lab.text()
    with open(f"{lab.out}/0002/summary.json", encoding="utf-8") as file:
        return json.load(file)


def rows_go_over_ucx(lab):
    """The front's EEP_NETWORK is that of all ranks, and a rank comes back."""
    os.environ["EEP_NETWORK"] = "ucx"
    try:
        front = lab.start_front("--serve", "--keep-busy", 8, "--requests", 20)
        lab.await_(lab.serves, "serving")
        ranks = lab.lab.run("h2", "pgrep", "-f", "^eep-run --rank-process").split()
        for rank in ranks:
            assert lab.lab.run("h2", "grep", "-zc", "EEP_NETWORK=ucx", f"/proc/{rank}/environ").strip() == "1"
        lab.ctl("kill", "2")
        lab.ctl("wait", "settled", "--timeout", BOUND_S // 2)
        lab.ctl("rejoin", "2")
        lab.await_(lambda: lab.serves() and not lab.vacant(), "the rank's return")
        lab.ctl("finish")
        return lab.end(front)
    finally:
        del os.environ["EEP_NETWORK"]


def random_faults_are_drawn(lab):
    """A round of eep-chaos: a rank or a host dies, or the network is cut, four times. Its command draws the same."""
    lab.write_hosts(limits=f"{LIMITS},expel_floor_us=4000000,step_deadline_us=8000000,drain_bound_us=8000000")
    out, round_1 = f"{lab.folder}/chaos", ("--seed", 4, "--round", 1, "--faults", 4, "--mix", "kill=2,partition,nic-down,host-kill")
    done = lab.chaos(out, *round_1, capture_output=True, text=True)
    assert done.returncode == 0 and "no violation" in done.stdout, f"{done.stdout}{done.stderr}"
    with open(f"{out}/chaos.csv", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split(",") for line in file if not line.startswith("#")]
    orders = [row[rows[0].index("order")].replace("+", ",") for row in rows[1:]]
    again = lab.chaos(f"{lab.folder}/dry", *round_1, "--dry-run", capture_output=True, text=True).stdout
    assert [line.split()[-1].strip("'") for line in again.splitlines() if line.startswith("eep-ctl")] == orders, f"{orders}: {again}"
    assert sum(int(row[rows[0].index("expelled")]) for row in rows[1:]) > 0, rows
    with open(f"{out}/round-1/summary.json", encoding="utf-8") as file:
        return json.load(file)


def a_workers_connection_is_reset(lab):
    """The front's connection comes back. An order that was given meanwhile is done once."""
    front = lab.start_front("--serve", "--keep-busy", 8, "--requests", 20)
    lab.await_(lab.serves, "serving")
    order = lab.lab.start("h1", "sh", "-c", f"echo {{}}; until grep -q 'broke (it was reset): tries for' {lab.log.name}; do sleep 0.05; "
                          f"done; exec {BUILD}/experiments/eep-ctl --out {lab.out} kill 2")  # the front tries for 5 s
    lab.lab("reset", "h1", "h2", "--net", "outside")
    assert order.wait(BOUND_S) == 0, lab.text()
    lab.lab("heal")
    lab.await_(lambda: "host h2: the connection to its worker is back" in lab.text(), "the connection")
    lab.await_(lambda: lab.vacant() == ["2"], "the end of rank 2")
    lab.ctl("rejoin", "2")
    lab.await_(lambda: lab.serves() and not lab.vacant(), "its return")
    lab.ctl("finish")
    summary = lab.end(front)
    assert [(fault["kind"], fault["rank"]) for fault in summary["faults"]] == [("kill", 2)], summary["faults"]
    assert "is lost" not in lab.text(), lab.text()
    return summary


four_hosts_are_cut_in_halves.hosts = 4
TESTS = [ranks_and_an_agent_die_and_a_rank_stops, hosts_stand_still_and_lose_power,
         the_etcd_that_ranks_ask_is_lost_with_another_host, ranks_come_back_on_another_host,
         a_partition_a_dead_interface_and_a_one_way_drop, four_hosts_are_cut_in_halves, what_eep_ctl_asks_for_is_done,
         a_workers_connection_is_reset, random_faults_are_drawn, runs_are_repeated, rows_go_over_ucx, a_worker_dies_and_is_started_again, a_front_is_killed_and_another_goes_on, the_host_of_a_front_dies]


def start_clock(lab):
    """Times of a compare-and-swap; what each fault waits for goes through the same register."""
    return subprocess.Popen([NETLAB, "--lab", lab.name, "run", "h1", f"{HERE}/cas_clock.py",
                             *(f"http://10.78.0.{n}:2379" for n in HOSTS)], stdout=subprocess.PIPE, text=True)


def read_clock(clock):
    """n, p50 and p99 in ms."""
    clock.kill()
    took = sorted(float(line) for line in clock.communicate()[0].splitlines())
    assert took, "no compare-and-swap was answered"
    return len(took), took[len(took) // 2], took[min(len(took) - 1, len(took) * 99 // 100)]


def write_rows(path, rows, commit):
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"# commit {commit}\n# machine {os.cpu_count()} cores, Linux {os.uname().release}, load {os.getloadavg()[0]:.1f}\n"
                   f"# command tests/hosts/test_run.py BUILD --rows FILE, 3 hosts of tools/netlab, 2 ranks each, {LIMITS}\n")
        file.write(",".join(("test", *PARTS, "cas_n", "cas_p50_ms", "cas_p99_ms")) + "\n")
        for test, fault, cas in rows:
            if fault["expelled"]:
                said = [fault[part] for part in PARTS] + list(cas)
                file.write(",".join([test, *("" if value is None else str(value) for value in said)]) + "\n")


def main():
    global BUILD
    rows_path = sys.argv.pop(sys.argv.index("--rows") + 1) if "--rows" in sys.argv else None
    rows, words = [], [word for word in sys.argv[2:] if word != "--rows"]
    leave_out_unless_possible()
    if not shutil.which("etcd"):
        print("no etcd here (Debian: etcd-server)")
        sys.exit(77)
    BUILD = os.path.realpath(sys.argv[1])
    os.environ["EEP_WIRE"] = f"{BUILD}/experiments/eep-wire"
    failed = 0
    for test in TESTS:
        if words and not any(name in test.__name__ for name in words):
            continue
        folder = f"/dev/shm/eep-test-run-{os.getpid()}"
        os.makedirs(folder)
        begin = time.monotonic()
        try:
            with HostLab(getattr(test, "hosts", 3), "--share", folder) as lab:
                laboratory = Laboratory(lab, folder)
                clock = start_clock(lab) if rows_path else None
                summary = test(laboratory)
                pauses = [(fault["kind"], fault["rank"], fault["pause_ms"]) for fault in summary["faults"]]
                if clock:
                    cas = read_clock(clock)
                    rows += [(test.__name__, fault, cas) for fault in summary["faults"]]
                print(f"ok    {test.__name__} ({time.monotonic() - begin:.1f} s): {pauses}", flush=True)
        except AssertionError as error:
            failed += 1
            print(f"FAIL  {test.__name__}: {error}", flush=True)
        finally:
            shutil.rmtree(folder)
    if rows_path and not failed:
        write_rows(rows_path, rows, summary["commit"])
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
