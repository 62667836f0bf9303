# SPDX-License-Identifier: Apache-2.0
"""munged, slurmctld and slurmd of one node in a folder, on ports of the loopback interface. By its
configuration a task that ends takes the others with it, unless srun is told otherwise."""
import os
import socket
import subprocess

from launch_lab import until

CONFIGURATION = """ClusterName=eep
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
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
NodeName=eep-node NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs={cpus} State=UNKNOWN
PartitionName=eep Nodes=ALL Default=YES OverSubscribe=FORCE:8 State=UP MaxTime=INFINITE
"""


def free_ports(number):
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


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
            file.write(CONFIGURATION.format(host=socket.gethostname().split(".")[0], folder=self.folder, cpus=os.cpu_count(),
                                            control_port=control_port, node_port=node_port))
        launched.environment.update(SLURM_CONF=f"{self.folder}/slurm.conf", SLURM_OVERCOMMIT="1", SBATCH_OVERCOMMIT="1")

    def __enter__(self):
        munge = f"{self.folder}/munge"
        with open(f"{munge}/key", "wb", opener=lambda path, flags: os.open(path, flags, 0o400)) as key:
            key.write(os.urandom(128))
        self.launched.start(["munged", "--foreground", "--force", f"--key-file={munge}/key", f"--socket={munge}/socket",
                             f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed",
                             "--num-threads=2"])
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
