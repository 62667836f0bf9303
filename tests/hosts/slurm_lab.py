# SPDX-License-Identifier: Apache-2.0
"""munged, slurmctld and slurmd of one node in a folder, on ports of the loopback interface. By its
configuration a task that ends takes the others with it, unless srun is told otherwise."""
import os
import socket
import subprocess

from host_lab import NETLAB, free_ports
from launch_lab import until

CONFIGURATION = """ClusterName=eep
SlurmctldHost={control}
SlurmctldPort={control_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge}/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
KillWait=1
KillOnBadExit=1
WaitTime=1
SlurmdTimeout=10
{nodes}
PartitionName=eep Nodes=ALL Default=YES OverSubscribe=FORCE:8 State=UP MaxTime=INFINITE
"""

OVERCOMMIT = {"SLURM_OVERCOMMIT": "1", "SBATCH_OVERCOMMIT": "1"}  # machines have fewer cores than ranks


def write_key(path):
    with open(path, "wb", opener=lambda path, flags: os.open(path, flags, 0o400)) as key:
        key.write(os.urandom(128))


def munged(key, folder):
    return ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/socket", f"--pid-file={folder}/pid",
            f"--log-file={folder}/log", f"--seed-file={folder}/seed", "--num-threads=2"]


class Slurm:
    """`launched`: its children and its environment are the daemons', too."""

    def __init__(self, launched):
        self.launched, self.folder = launched, f"{launched.folder}/slurm"
        os.mkdir(self.folder)
        os.mkdir(f"{self.folder}/state")
        os.mkdir(f"{self.folder}/munge")
        for folder in (launched.folder, self.folder, f"{self.folder}/munge"):
            os.chmod(folder, 0o755)  # munged demands it
        control_port, node_port = free_ports(2)
        with open(f"{self.folder}/slurm.conf", "w", encoding="utf-8") as file:
            host = socket.gethostname().split(".")[0]
            file.write(CONFIGURATION.format(
                control=f"{host}(127.0.0.1)", folder=self.folder, munge=f"{self.folder}/munge", control_port=control_port,
                node_port=node_port,
                nodes=f"NodeName=eep-node NodeHostname={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN"))
        launched.environment.update(SLURM_CONF=f"{self.folder}/slurm.conf", **OVERCOMMIT)

    def __enter__(self):
        munge = f"{self.folder}/munge"
        write_key(f"{munge}/key")
        self.launched.start(munged(f"{munge}/key", munge))
        until(lambda: os.path.exists(f"{munge}/socket"), "munged")
        self.launched.start(["slurmctld", "-D"])
        self.launched.start(["slurmd", "-D", "-N", "eep-node"])
        until(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%t"), "an idle node of Slurm")
        return self

    def __exit__(self, *_):
        self.ask("scancel", "--full", "--user=root")
        self.ask("scontrol", "shutdown")

    def ask(self, *command):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self.launched.environment)
        return done.stdout


class SlurmHosts:
    """The same on hosts of tools/netlab: slurmctld on the first, and each of the others is a node. What a
    host's daemons keep lies on its own /run."""

    def __init__(self, launched, lab, nodes):
        self.launched, self.lab, self.nodes = launched, lab, nodes
        self.configuration = f"{launched.folder}/slurm.conf"
        write_key(f"{launched.folder}/munge-key")
        with open(f"{launched.folder}/cgroup.conf", "w", encoding="utf-8") as file:
            file.write("CgroupPlugin=cgroup/v1\n")  # looks for none, and a host has none
        with open(self.configuration, "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(
                control="h1", folder="/run/slurm", munge="/run/munge", control_port=6817, node_port=6818,
                nodes=f"NodeName={','.join(nodes)} CPUs={os.cpu_count()} State=UNKNOWN"))

    def __enter__(self):
        for host in ("h1", *self.nodes):
            self.lab.run(host, "sh", "-c", "mkdir -p -m 0755 /run/munge /run/slurm/state /run/slurm/spool")
            self.on(host, *munged(f"{self.launched.folder}/munge-key", "/run/munge"))
            until(lambda at=host: "socket" in self.lab.run(at, "ls", "/run/munge"), "munged")
        self.on("h1", "slurmctld", "-D")
        for host in self.nodes:
            self.on(host, "slurmd", "-D", "-N", host)
        until(lambda: self.ask("sinfo", "--noheader", "--format=%D %t").strip() == f"{len(self.nodes)} idle",
              lambda: f"idle nodes of Slurm: {self.ask('sinfo')}")
        return self

    def __exit__(self, *_):
        self.ask("scancel", "--full", "--user=root")

    def on(self, host, *command, **environment):
        """A command that goes on, on a host. The host's own name of itself is not for its children:
        Slurm takes the environment of whoever asks along to other hosts."""
        words = [f"{name}={value}" for name, value in {"SLURM_CONF": self.configuration, **OVERCOMMIT, **environment}.items()]
        return self.launched.start([NETLAB, "--lab", self.lab.name, "run", host, "env", "-u", "EEP_HOST_ID", *words, *command])

    def ask(self, *command, **environment):
        words = [f"{name}={value}" for name, value in {"SLURM_CONF": self.configuration, **OVERCOMMIT, **environment}.items()]
        return self.lab.run("h1", "env", "-u", "EEP_HOST_ID", *words, *command, status=None)
