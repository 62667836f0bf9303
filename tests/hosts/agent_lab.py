# SPDX-License-Identifier: Apache-2.0
"""Three hosts of tools/netlab with an agent each, and etcd on the first, for tests."""
import subprocess
import time

from host_lab import NETLAB

STATE = "/run/eep-state/eep"
STORE = f"etcd://10.77.0.1:2379?local={STATE}/store"
BOUND_S = 60  # of waits for what must come; no healthy run comes near it
HOSTS = ("h1", "h2", "h3")


def until(holds, what):
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < BOUND_S, f"{what()} after {BOUND_S} s"
        time.sleep(0.01)
    return time.monotonic() - begin


class AgentLab:
    """Its key is in STATE of each host; `build` is the build folder."""

    def __init__(self, lab, build):
        self.lab, self.build, self.agents = lab, build, {}
        for host in HOSTS:
            lab.run(host, "sh", "-c", f"umask 077; mkdir {STATE}; echo {'5e' * 32} >{STATE}/key")
        self.start("h1", "etcd", "--data-dir", f"{STATE}/etcd", "--log-level", "error",
                   "--listen-client-urls", "http://10.77.0.1:2379", "--advertise-client-urls", "http://10.77.0.1:2379",
                   "--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls",
                   "http://127.0.0.1:2380", "--initial-cluster", "default=http://127.0.0.1:2380",
                   stderr=subprocess.DEVNULL)
        for host in HOSTS:
            self.start_agent(host)

    def start(self, host, *command, stderr=None):
        """A command that goes on, with pipes to its input and from its output."""
        child = subprocess.Popen([NETLAB, "--lab", self.lab.name, "run", host, *map(str, command)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True)
        self.lab.children.append(child)
        return child

    def start_agent(self, host):
        begin = time.monotonic()
        while True:  # etcd may not answer yet
            agent = self.start(host, f"{self.build}/experiments/eep-agent", "--store", STORE, "--listen",
                               f"10.77.0.{host[1:]}:7700", "--key", f"{STATE}/key")
            if "ready" in agent.stdout.readline():
                self.agents[host] = agent
                return
            assert time.monotonic() - begin < BOUND_S, f"no agent on {host}"

    def agent_signal(self, host, name):
        self.lab.run(host, "pkill", f"-{name}", "-x", "eep-agent")
