#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The recipes of docs/DEPLOY.md, with their launchers and the files of examples/deploy: an instance of
4 ranks, a rank that is killed, its return by the launcher's own means, and no wrong row.

    test_launchers.py BUILD RECIPE...

Exit status 77: this machine lacks the launcher.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import lws_form  # noqa: E402
from host_lab import NETLAB, HostLab, free_ports, netlab  # noqa: E402
from lab_door import open_door  # noqa: E402
from launch_lab import BOUND_S, DEPLOY, RANKS, Launched, Left, need, until  # noqa: E402
from slurm_lab import Slurm, SlurmHosts  # noqa: E402
from systemd_lab import SYSTEMD, Systemd  # noqa: E402

HERE = os.path.dirname(os.path.realpath(__file__))
BUILD = None
# On a busy machine a host that is well may not run for 200 ms.
LIMITS = "host_silence_us=1000000,expel_floor_us=10000000,step_deadline_us=10000000,drain_bound_us=10000000"
# On a machine with fewer cores than ranks, and as root.
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe"]


def mpirun():
    """`mpirun --enable-recovery` leaves the others alone; a second mpirun starts the one rank again."""
    need("mpirun")
    with Launched(BUILD) as it:
        job = it.start([*MPIRUN, "--enable-recovery", "-n", str(RANKS), it.engine, it.says])
        epoch = it.await_view(RANKS)
        pause = it.lose(2, epoch)
        assert job.poll() is None, it.story()
        it.start([*MPIRUN, "-n", "1", "-x", "EEP_LAUNCHER=eep", "-x", "EEP_RANK=2", "-x", f"EEP_SIZE={RANKS}",
                  it.engine, it.says])
        it.await_view(RANKS, epoch + 1)
        said = it.end(lost=1)
        assert job.wait(60) == 0, it.story()
        assert "rank 2 from OMPI_COMM_WORLD_RANK, 4 ranks from OMPI_COMM_WORLD_SIZE" in it.log(), it.story()
        assert "rank 2 from EEP_RANK" in it.log(), it.story()
        return f"steps without it after {1000 * pause:.0f} ms; {said}"


def mpirun_twice_the_same_number():
    """A replacement whose own launch counts from 0 is refused by both names, and not put into seat 0."""
    need("mpirun")
    with Launched(BUILD) as it:
        job = it.start([*MPIRUN, "-n", "1", "-x", "EEP_RANK=2", "-x", f"EEP_SIZE={RANKS}", it.engine, it.says])
        assert job.wait(60) != 0
        assert "EEP_RANK says 2 and OMPI_COMM_WORLD_RANK says 0" in it.log(), it.log()
        return "refused"


def mpirun_python():
    """The example engine in Python: killed, started again, and drained by SIGTERM."""
    need("mpirun")
    python = "/usr/bin/python3"
    if subprocess.run([python, "-c", "import cffi, numpy"], capture_output=True, check=False).returncode != 0:
        raise Left("no python3-cffi or python3-numpy here")
    with Launched(BUILD) as it:
        it.run([python, f"{DEPLOY}/../../bindings/python/eep_build.py", "--tree", f"{it.build}/python", "--libeep", f"{it.build}/libeep.so"])
        it.environment.update(PYTHONPATH=f"{it.build}/python", PYTHONDONTWRITEBYTECODE="1")
        engine = [python, f"{DEPLOY}/rank.py"]

        def said(words):
            return {int(rank): int(pid) for rank, pid in re.findall(rf"rank (\d+) generation \d+ pid (\d+): {words}", it.log())}

        def await_ranks(words, number):
            until(lambda: len(said(words)) == number, lambda: f"{number} times '{words}': {it.log()[-3000:]}")

        job = it.start([*MPIRUN, "--enable-recovery", "-n", str(RANKS), *engine])
        await_ranks("4 ranks serve in epoch 1", RANKS)
        os.kill(said("4 ranks")[2], signal.SIGKILL)
        await_ranks("3 ranks serve in epoch", RANKS - 1)
        it.start([*MPIRUN, "-n", "1", "-x", "EEP_LAUNCHER=eep", "-x", "EEP_RANK=2", "-x", f"EEP_SIZE={RANKS}", *engine])
        until(lambda: "rank 2 generation 2" in it.log(), "the second process of rank 2")
        epoch = max(map(int, re.findall(r"rank 2 generation 2 pid \d+: 4 ranks serve in epoch (\d+)", it.log())))
        await_ranks(f"4 ranks serve in epoch {epoch}", RANKS)
        for pid in said(f"4 ranks serve in epoch {epoch}").values():
            os.kill(pid, signal.SIGTERM)
        await_ranks("drained after [1-9][0-9]* steps, all right", RANKS)
        assert job.wait(60) == 0, it.log()[-3000:]
        return "killed, back, and drained"


def slurm():
    """A task starts its engine again; where the whole task is lost, a further step takes its seat."""
    need("root", "munged", "slurmctld", "slurmd", "sbatch", "srun")
    with Launched(BUILD) as it, Slurm(it) as cluster:
        output = f"{it.folder}/job.out"
        it.logs.append(output)
        words = it.run(["sbatch", f"--ntasks={RANKS}", f"--output={output}", f"{DEPLOY}/ranks.sbatch", it.engine, it.says],
                       EEP_TASK_RESTART_S="0.2")
        job = words.split()[-1]
        epoch = it.await_view(RANKS)
        pause = it.lose(2, epoch)
        epoch = it.await_view(RANKS, epoch + 1)
        it.lose(1, epoch, parent=True)
        step = it.start(["srun", f"--jobid={job}", "--overlap", "--ntasks=1", f"--export=ALL,EEP_RANK=any,EEP_SIZE={RANKS}",
                         it.engine, it.says])
        it.await_view(RANKS, epoch + 1)
        said = it.end(lost=2)
        assert step.wait(60) == 0, it.story()
        until(lambda: job not in cluster.ask("squeue", "--noheader", "--format=%i"), "the end of the job")
        assert "rank 2 from SLURM_PROCID, 4 ranks from SLURM_STEP_NUM_TASKS" in it.log(), it.story()
        assert "any free seat from EEP_RANK" in it.log(), it.story()
        return f"steps without it after {1000 * pause:.0f} ms; {said}"


def copy_units(it):
    """The units of examples/deploy in a folder, with drop-ins that say what a user would."""
    units = f"{it.folder}/units"
    for name, settings in (("eep-agent", f"ExecStart={it.build}/experiments/eep-agent --store ${{EEP_STORE}} --listen "
                            "${EEP_AGENT_LISTEN} --key ${EEP_KEY_FILE}"),
                           ("eep-rank@", f"ExecStart={it.engine} {it.says}")):
        os.makedirs(f"{units}/{name}.service.d")
        shutil.copy(f"{DEPLOY}/{name}.service", units)
        with open(f"{units}/{name}.service.d/test.conf", "w", encoding="utf-8") as file:
            file.write(f"[Service]\nUser=root\nEnvironmentFile=\nEnvironmentFile={it.folder}/instance.env\nExecStart=\n{settings}\n"
                       f"StandardOutput=append:{it.folder}/units.log\nStandardError=append:{it.folder}/units.log\n")
    return units


def systemd_units():
    """systemd-analyze finds no fault in the units, and would find one."""
    need("systemd-analyze")
    with Launched(BUILD) as it:
        units = copy_units(it)
        names = [f"{units}/eep-agent.service", f"{units}/eep-rank@0.service"]
        shutil.copy(f"{units}/eep-rank@.service", names[1])
        verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *names]
        assert it.run(verify, SYSTEMD_LOG_LEVEL="warning") == ""
        with open(names[0], "a", encoding="utf-8") as file:
            file.write("[Service]\nRestart=sometimes\n")
        done = subprocess.run(verify, capture_output=True, text=True, check=False, env=it.environment)
        assert "restart specifier" in done.stderr, done.stderr
        return "both verified"


def systemd():
    """The units under a systemd of their own: a rank that is killed is started again, and so is the agent."""
    need("root", "etcd", "systemctl", "nsenter", SYSTEMD)
    with Launched(BUILD) as it:
        units = copy_units(it)
        ports = free_ports(3)
        etcd = f"http://127.0.0.1:{ports[0]}"
        it.start(["etcd", "--data-dir", f"{it.folder}/etcd", "--log-level", "fatal", "--logger", "zap", "--listen-client-urls",
                  etcd, "--advertise-client-urls", etcd, "--listen-peer-urls", f"http://127.0.0.1:{ports[1]}"])
        it.write_key()
        with open(f"{it.folder}/instance.env", "w", encoding="utf-8") as file:
            file.write(f"EEP_STORE=etcd://127.0.0.1:{ports[0]}?local=/run/eep/store\nEEP_SIZE={RANKS}\n"
                       f"EEP_KEY_FILE={it.folder}/key\nEEP_AGENT_LISTEN=127.0.0.1:{ports[2]}\nEEP_RANKS_PER_NODE={RANKS}\n")
        for name in ("sysinit", "basic", "shutdown"):  # those of the machine are not to run
            with open(f"{units}/{name}.target", "w", encoding="utf-8") as file:
                file.write("[Unit]\nDefaultDependencies=no\n")
        it.logs.append(f"{it.folder}/units.log")
        with open(f"{units}/eep-test.target", "w", encoding="utf-8") as file:
            file.write("[Unit]\nDefaultDependencies=no\nWants=" + " ".join(f"eep-rank@{rank}.service" for rank in range(RANKS)) + "\n")
        with Systemd(it, units) as first:
            epoch = it.await_view(RANKS)
            pause = it.lose(2, epoch)
            epoch = it.await_view(RANKS, epoch + 1)
            first.control("kill", "--signal=KILL", "eep-agent.service")
            until(lambda: first.control("show", "--property=NRestarts,ActiveState", "eep-agent.service") ==
                  "NRestarts=1\nActiveState=active\n", "the next agent")
            it.lose(1, epoch)
            it.await_view(RANKS, epoch + 1)
            said = it.end(lost=2)
            until(lambda: first.control("is-active", "eep-rank@0.service") == "inactive\n", "the end of a unit")
        return f"steps without it after {1000 * pause:.0f} ms; {said}"


def lws_manifest():
    """The manifest has the form that LeaderWorkerSet wants, and numbers each rank once. No cluster runs it."""
    try:
        import jsonschema
        import yaml
    except ImportError:
        raise Left("no python3-jsonschema or python3-yaml here") from None
    with open(f"{DEPLOY}/lws.yaml", encoding="utf-8") as file:
        manifest = yaml.safe_load(file)
    jsonschema.Draft7Validator.check_schema(lws_form.FORM)
    wrong = [f"{list(error.path)}: {error.message}" for error in jsonschema.Draft7Validator(lws_form.FORM).iter_errors(manifest)]
    assert not wrong, wrong
    group = manifest["spec"]["leaderWorkerTemplate"]
    assert group["restartPolicy"] == "None"
    with Launched(BUILD) as it:
        ranks, hosts = [], set()
        for pod, container, environment in lws_form.environments(manifest):
            if container.startswith("rank-"):
                found = json.loads(it.run([f"{it.build}/experiments/eep-info", "--launch", "--json"], **environment))["launch"]
                assert (found["num_ranks"], found["address"]) == (4, environment["POD_IP"]), found
                assert found["leader"] == "eep-0.eep.default", found
                ranks.append(found["rank"])
            hosts.add((pod, environment["EEP_HOST_ID"]))
        assert ranks == [0, 1, 2, 3] and len(hosts) == 2, (ranks, hosts)
    return "the form is right, and ranks are 0 to 3"


def ray():
    """An actor starts its rank again, and Ray starts an actor again; RAY_PYTHON has Ray."""
    python = os.environ.get("RAY_PYTHON")
    if not python:
        raise Left("RAY_PYTHON names no Python with Ray (tools/ray-env.sh)")
    with Launched(BUILD) as it:
        it.environment.update(RAY_TMPDIR=it.folder, HOME=it.folder)
        job = it.start([python, f"{DEPLOY}/ray_ranks.py", "--ranks", str(RANKS), "--store", it.environment["EEP_STORE"],
                        it.engine, it.says])
        epoch = it.await_view(RANKS)
        pause = it.lose(2, epoch)
        epoch = it.await_view(RANKS, epoch + 1)
        actors = {seat: process.parent() for seat, process in it.living().items()}
        begin = time.monotonic()
        it.lose(1, epoch, parent=True, rank=False)  # the actor takes its rank with it
        epoch = it.await_view(RANKS, epoch + 1)
        back = time.monotonic() - begin
        now = {seat: process.parent() for seat, process in it.living().items()}
        assert [seat for seat in now if now[seat] != actors[seat]] == [1], (actors, now)
        said = it.end(lost=2)
        assert job.wait(60) == 0, it.story()
        return f"steps without it after {1000 * pause:.0f} ms, an actor and its rank back after {back:.1f} s; {said}"


def torchrun():
    """Its variables number the ranks; TORCH_PYTHON has torch. A rank that is killed is none of its business:
    torchrun would start all of them again."""
    python = os.environ.get("TORCH_PYTHON")
    if not python:
        raise Left("TORCH_PYTHON names no Python with torch (tools/python-env.sh)")
    with Launched(BUILD) as it:
        job = it.start([python, "-m", "torch.distributed.run", f"--nproc-per-node={RANKS}", "--no-python", it.engine, it.says])
        it.await_view(RANKS)
        said = it.end(lost=0)
        assert job.wait(60) == 0, it.story()
        assert "rank 2 from RANK, 4 ranks from WORLD_SIZE, local rank 2 from LOCAL_RANK" in it.log(), it.story()
        return said


def start_agents(it, lab, hosts, store):
    """etcd on the first host, and an agent on each of these; it has the job's key."""
    etcd = f"http://{lab.run('h1', 'printenv', 'EEP_NETLAB_FABRIC').strip()}:2379"
    run = [NETLAB, "--lab", lab.name, "run"]
    it.start([*run, "h1", "etcd", "--data-dir", "/run/etcd", "--log-level", "fatal", "--logger", "zap", "--listen-client-urls", etcd,
              "--advertise-client-urls", etcd])
    for host in hosts:  # until etcd answers
        it.start([*run, host, "env", "-u", "EEP_HOST_ID", "sh", "-c", f'until {it.build}/experiments/eep-agent --store "{store}" --key '
                  f'{it.folder}/key --listen "$EEP_NETLAB_FABRIC:7700"; do sleep 0.1; done'])


def slurm_on_hosts():
    """Two nodes of two ranks each. A rank dies, then a whole node; ranks take its seats on the other node."""
    need("root", "munged", "slurmctld", "slurmd", "sbatch", "srun", "etcd")
    if netlab("any", "can", status=None).strip():
        raise Left("this machine lets no hosts of namespaces run (tools/netlab can)")
    store = "etcd://10.77.0.1:2379?local=/run/eep-state/eep"
    with Launched(BUILD) as it, HostLab(3, "--share", it.folder) as lab, SlurmHosts(it, lab, ["h2", "h3"]) as cluster:
        it.write_key()
        start_agents(it, lab, ["h2", "h3"], store)
        output = f"{it.folder}/job.out"
        it.logs.append(output)
        settings = {"EEP_STORE": store, "EEP_KEY_FILE": f"{it.folder}/key", "EEP_NETWORK_INTERFACE": "fabric0", "EEP_RANKS_PER_NODE": "2",
                    "EEP_BULK": "ucx", "EEP_BULK_INTERFACE": "fabric0", "EEP_LAB_CONFIG": LIMITS, "EEP_TASK_RESTART_S": "0.2"}
        words = cluster.ask("sbatch", "--nodes=2", f"--ntasks={RANKS}", "--ntasks-per-node=2", f"--output={output}", f"{DEPLOY}/ranks.sbatch",
                            it.engine, it.says, **settings)
        job = words.split()[-1]
        epoch = it.await_view(RANKS)
        pause = it.lose(1, epoch)
        epoch = it.await_view(RANKS, epoch + 1)
        lab("crash", "h3")
        begin = time.monotonic()
        it.await_others([2, 3], epoch)
        lost = time.monotonic() - begin
        cluster.on("h1", "srun", f"--jobid={job}", "--overlap", "--nodelist=h2", "--nodes=1", "--ntasks=2",
                   f"--export=ALL,EEP_RANK=any,EEP_SIZE={RANKS}", it.engine, it.says, **settings)
        it.await_view(RANKS, epoch + 1)
        said = it.end(lost=3)
        assert "rank 3 from SLURM_PROCID, 4 ranks from SLURM_STEP_NUM_TASKS, local rank 1 from SLURM_LOCALID" in it.log(), it.story()
        return f"steps without it after {1000 * pause:.0f} ms, without a host after {1000 * lost:.0f} ms; {said}"


def launched_words(it, store, *options):
    """eep-run as a process of a launcher's job; a rank dies and comes back."""
    return [f"{it.build}/experiments/eep-run", "--launched", "--store", store, "--ranks", str(RANKS), "--slots", "32", "--requests", "40",
            "--no-picture", "--quiet", "--out", f"{it.folder}/out", *options]


def expect_good(it, *hosts):
    """Both hosts had ranks, and the instance was judged good by process 0."""
    log = it.log()
    assert "GOOD: nothing wrong, nothing lost" in log, log
    for number, host in enumerate(hosts):
        assert re.search(rf"host{number} is {host}, at 10\.77\.0\.\d:\d+: {RANKS // len(hosts)} ranks", log), log
    with open(f"{it.folder}/out/summary.json", encoding="utf-8") as file:
        summary = json.load(file)
    assert [fault["rank"] for fault in summary["faults"]] == [2] and all(join["joined"] for join in summary["joins"]), summary
    return f"{summary['tokens_emitted']} tokens, pause {summary['faults'][0]['pause_ms']:.0f} ms"


def start_etcd_on_h1(it, lab):
    """It listens in the fabric; the job's key is there."""
    it.write_key()
    start_agents(it, lab, [], None)
    return "etcd://10.77.0.1:2379?local=/run/eep-state/eep"


DIES = ("--keep-busy", "8", "--kill", "2@1", "--rejoin", "2@2", "--dummy-burn", "0.05@joined:2")


def need_hosts(*programs):
    need("root", "etcd", *programs)
    if netlab("any", "can", status=None).strip():
        raise Left("this machine lets no hosts of namespaces run (tools/netlab can)")


LAUNCHED = {"EEP_NETWORK_INTERFACE": "fabric0", "EEP_BULK_INTERFACE": "fabric0", "EEP_LAB_CONFIG": LIMITS}
SERVES = ("--serve", "--requests", "10", "--keep-busy", "4")


def lose_h3(it, lab, out, good=1):
    """The instance of h2 and h3 serves, and loses h3 without a word: h2 serves on and ends, with that many GOOD in the log."""
    def ctl(*words):
        return subprocess.run([NETLAB, "--lab", lab.name, "run", "h2", f"{BUILD}/experiments/eep-ctl", "--out", out, *words],
                              capture_output=True, text=True, check=False)

    def completed():
        return json.loads(ctl("--json", "status").stdout)["requests"]["completed"]

    until(lambda: ctl("wait", "settled").returncode == 0, lambda: f"no ranks that serve: {it.log()}")
    lab("crash", "h3")
    until(lambda: "host host1: the connection to its worker is lost" in it.log(), it.log)
    done = completed()
    until(lambda: completed() > done + 4, it.log)
    assert ctl("finish").returncode == 0, it.log()
    until(lambda: it.log().count("GOOD: nothing wrong, nothing lost") == good, it.log)
    with open(f"{out}/summary.json", encoding="utf-8") as file:
        assert json.load(file)["expelled_living"] == 2, it.log()


def mpirun_over_h2_and_h3(it, lab, *options):
    """mpirun on h1. What it has for ssh goes through a door, and says 0 whenever it ends (docs/HOSTS.md)."""
    door = open_door(f"{it.folder}/door", [NETLAB, "--lab", lab.name])
    with open(f"{it.folder}/remote", "w", opener=lambda path, flags: os.open(path, flags, 0o755), encoding="utf-8") as remote:
        remote.write(f'#!/bin/sh\nhost=$1\nshift\n/usr/bin/python3 {HERE}/lab_door.py {it.folder}/door run "$host" '
                     'sh -c "unset EEP_HOST_ID; $*"\nexit 0\n')
    settings = {"EEP_KEY_FILE": f"{it.folder}/key", **LAUNCHED}
    words = [word for name, value in settings.items() for word in ("-x", f"{name}={value}")]
    return door, it.start([NETLAB, "--lab", lab.name, "run", "h1", "env", "-u", "EEP_HOST_ID", *MPIRUN, "--mca", "plm_rsh_agent",
                           f"{it.folder}/remote", "--host", "h2,h3", "-n", "2", *words, *options])


def launched_by_mpirun():
    """`mpirun -n 2 eep-run --launched` over two hosts, of which mpirun's own is none."""
    need_hosts("mpirun")
    with Launched(BUILD) as it, HostLab(3, "--share", it.folder) as lab:
        store = start_etcd_on_h1(it, lab)
        door, job = mpirun_over_h2_and_h3(it, lab, "--bind-to", "none", *launched_words(it, store, *DIES))
        assert job.wait(2 * BOUND_S) == 0, it.log()
        door.shutdown()
        return expect_good(it, "h2", "h3")


def launched_by_mpirun_loses_a_host():
    """With --enable-recovery the other host serves on. mpirun waits for the lost one until it is told twice to end."""
    need_hosts("mpirun")
    with Launched(BUILD) as it, HostLab(3, "--share", it.folder) as lab:
        store = start_etcd_on_h1(it, lab)
        door, job = mpirun_over_h2_and_h3(it, lab, "--enable-recovery", "--bind-to", "none", *launched_words(it, store, *SERVES))
        lose_h3(it, lab, f"{it.folder}/out")
        assert job.poll() is None, it.log()
        for _ in range(2):
            job.terminate()
            time.sleep(0.5)
        job.wait(BOUND_S)
        door.shutdown()
        return "the other serves on"


def launched_by_variables_loses_a_host():
    """One process on each host, with the variables of torchrun and by no launcher: the other host serves on."""
    need_hosts()
    with Launched(BUILD) as it, HostLab(3, "--share", it.folder) as lab:
        store = start_etcd_on_h1(it, lab)
        settings = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "EEP_KEY_FILE": f"{it.folder}/key", **LAUNCHED}
        front, _ = (it.start([NETLAB, "--lab", lab.name, "run", host, "env", "-u", "EEP_HOST_ID", *launched_words(it, store, *SERVES)],
                             RANK=number, **settings) for number, host in zip("01", ("h2", "h3")))
        lose_h3(it, lab, f"{it.folder}/out")
        assert front.wait(BOUND_S) == 0, it.log()
        return "the other serves on"


def launched_by_srun():
    """`srun eep-run --launched` over two nodes, and again, where one of them is lost: the other serves on."""
    need_hosts("munged", "slurmctld", "slurmd", "srun")
    with Launched(BUILD) as it, HostLab(3, "--share", it.folder) as lab, SlurmHosts(it, lab, ["h2", "h3"]) as cluster:
        store = start_etcd_on_h1(it, lab)

        def srun(*words):
            return cluster.on("h1", "srun", "--nodes=2", "--ntasks-per-node=1", "--no-kill", "--wait=0", *words,
                              EEP_KEY_FILE=f"{it.folder}/key", **LAUNCHED)

        job = srun(*launched_words(it, store, *DIES))
        assert job.wait(2 * BOUND_S) == 0, it.log()
        said = expect_good(it, "h2", "h3")
        out = f"{it.folder}/lost"
        srun(*launched_words(it, store, *SERVES, "--out", out))
        lose_h3(it, lab, out, good=2)
        return f"{said}; the other serves on without a node"


def launched_in_vain():
    """Two processes of one host are refused by name. A worker whose front gives up ends, and does not wait."""
    need("mpirun", "etcd")
    with Launched(BUILD) as it:
        ports = free_ports(2)
        etcd = f"http://127.0.0.1:{ports[0]}"
        it.start(["etcd", "--data-dir", f"{it.folder}/etcd", "--log-level", "fatal", "--logger", "zap", "--listen-client-urls",
                  etcd, "--advertise-client-urls", etcd, "--listen-peer-urls", f"http://127.0.0.1:{ports[1]}"])
        it.write_key()
        it.environment.update(EEP_KEY_FILE=f"{it.folder}/key", EEP_NETWORK_INTERFACE="lo", EEP_BULK_INTERFACE="lo")
        words = launched_words(it, f"etcd://127.0.0.1:{ports[0]}?local={it.folder}/local")
        job = it.start([*MPIRUN, "-n", "2", *words])
        assert job.wait(BOUND_S) != 0, it.log()
        assert re.search("--launched: processes 0 and 1 are both on host .*: start one on each", it.log()), it.log()
        os.makedirs(f"{it.folder}/out/of-another")
        worker, front = (it.start(["taskset", "-c", str(min(os.sched_getaffinity(0))), *words], EEP_RANK=number, EEP_SIZE="2",
                                  EEP_HOST_ID=f"host-{number}") for number in "10")
        assert front.wait(BOUND_S) == 2 and f"{it.folder}/out" in it.log(), it.log()
        assert worker.wait(BOUND_S) == 1 and "host1 of the launcher's job: the front has given up" in it.log(), it.log()
        assert os.cpu_count() == 1 or f"lets its 2 ranks use 1 of {os.cpu_count()} processors, fewer than one each" in it.log(), it.log()
        return "both ended"


RECIPES = {"launched": [launched_in_vain, launched_by_mpirun, launched_by_mpirun_loses_a_host, launched_by_variables_loses_a_host, launched_by_srun], "slurm-hosts": [slurm_on_hosts], "ray": [ray], "torchrun": [torchrun], "lws": [lws_manifest], "systemd": [systemd_units, systemd], "mpirun": [mpirun, mpirun_twice_the_same_number, mpirun_python], "slurm": [slurm]}


def main():
    global BUILD
    BUILD = os.path.realpath(sys.argv[1])
    os.environ["EEP_WIRE"] = f"{BUILD}/experiments/eep-wire"
    failed = passed = 0
    for name in sys.argv[2:]:
        for test in RECIPES[name]:
            try:
                print(f"{test.__name__.replace('_', ' ')}: {test()}", flush=True)
                passed += 1
            except Left as why:
                print(f"left out  {test.__name__.replace('_', ' ')}: {why}", flush=True)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"FAIL  {test.__name__}: {error!r}", flush=True)
    sys.exit(1 if failed else 0 if passed else 77)


if __name__ == "__main__":
    main()
