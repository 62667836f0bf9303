# SPDX-License-Identifier: Apache-2.0
"""A laboratory: its hosts, and the faults between them. docs/NETLAB.md has the promises."""
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid

from netlab_parts.spaces import (HOLDER, KINDS, LIBC, PR_SET_PDEATHSIG, Refused, call, end, holders, in_net,
                                 is_running, mount, start_holder)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
LABS = "/run/eep-netlab"
COVERED = ("/tmp", "/run", "/dev/shm")  # folders that each host has for itself
STATE_PATH = "/run/eep-state"
PSEUDO = {"proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "mqueue", "bpf", "debugfs",
          "tracefs", "securityfs", "pstore", "configfs", "fusectl", "binfmt_misc", "hugetlbfs"}
DAY = 86400
NETS = {"fabric": (0, "10.77.0"), "outside": (1, "10.78.0")}
ADDRESS_NAMES = {"fabric": "EEP_NETLAB_FABRIC", "outside": "EEP_NETLAB_OUTSIDE"}
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


def address(host, net):
    return f"{NETS[net][1]}.{host['number']}"


def mac(host, net):
    return f"02:ee:00:00:{NETS[net][0]:02x}:{host['number']:02x}"


def port(name, net):
    return f"{net}-{name}"


def no_ipv6():
    """Rules are for IPv4: nothing goes around them."""
    for scope in ("all", "default"):
        path = f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"
        with contextlib.suppress(OSError), open(path, "w") as file:
            file.write("1")


def set_up_host(host, lab, shares):
    """Called in the new host's first process: its mounts, name and files."""
    state = os.open(f"{lab.folder}/state/{host['name']}", os.O_PATH)
    kept = [(path, os.open(path, os.O_PATH)) for path in shares]
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    for line in open("/proc/self/mounts"):
        _, point, kind = line.split()[:3]
        point = point.encode().decode("unicode_escape")
        if kind not in PSEUDO:
            with contextlib.suppress(OSError):  # one that another mount hides
                mount(None, point, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
    mount("proc", "/proc", "proc")
    mount("sysfs", "/sys", "sysfs")
    for point in COVERED:
        mount("tmpfs", point, "tmpfs", 0, "mode=1777" if point != "/run" else "mode=755")
    for path, fd in [(STATE_PATH, state), *kept]:
        os.makedirs(path, exist_ok=True)
        mount(f"/proc/self/fd/{fd}", path, None, MS_BIND)
        mount(None, path, None, MS_REMOUNT | MS_BIND)  # it has become read-only above
        os.close(fd)
    socket.sethostname(host["name"])
    os.makedirs("/run/eep-host")
    for name, text, over in [
            ("boot_id", f"{uuid.uuid4()}\n", "/proc/sys/kernel/random/boot_id"),
            ("hosts", lab.hosts_file(), "/etc/hosts")]:
        with open(f"/run/eep-host/{name}", "w") as file:
            file.write(text)
        mount(f"/run/eep-host/{name}", over, None, MS_BIND)
    no_ipv6()


def set_clock(seconds):
    with open("/proc/self/timens_offsets", "w") as file:
        file.write(f"monotonic {seconds} 0\nboottime {seconds} 0\n")


class Lab:
    def __init__(self, name):
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", name):
            raise Refused(f"'{name}': a laboratory's name has 1 to 32 letters, digits, _ and -")
        self.name = name
        self.folder = f"{LABS}/{name}"
        self.hosts, self.rules, self.shares = {}, [], []

    # ---- what is kept of it
    def load(self):
        try:
            with open(f"{self.folder}/lab.json") as file:
                kept = json.load(file)
        except OSError as error:
            raise Refused(f"laboratory '{self.name}' is not up") from error
        self.hosts, self.rules, self.shares = kept["hosts"], kept["rules"], kept["shares"]
        return self

    def save(self):
        with open(f"{self.folder}/lab.json.new", "w") as file:
            json.dump({"hosts": self.hosts, "rules": self.rules, "shares": self.shares}, file)
        os.rename(f"{self.folder}/lab.json.new", f"{self.folder}/lab.json")

    @contextlib.contextmanager
    def locked(self):
        """One command at a time changes it."""
        try:
            with open(f"{self.folder}/lock", "w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield self.load()
                self.save()
        except FileNotFoundError as error:
            raise Refused(f"laboratory '{self.name}' is not up") from error

    def pid_of(self, holder):
        try:
            return holders(self.name)[self.name][holder]
        except KeyError:
            raise Refused(f"'{holder}' of laboratory '{self.name}' is not running") from None

    def hosts_file(self):
        lines = ["127.0.0.1 localhost"]
        for name, host in self.hosts.items():
            lines += [f"{address(host, net)} {name}{'' if net == list(host['nets'])[0] else '-' + net}"
                      for net in host["nets"]]
        return "\n".join(lines) + "\n"

    # ---- up and down
    def up(self, num_hosts, num_outsiders, clocks, shares):
        os.makedirs(LABS, mode=0o700, exist_ok=True)
        try:
            os.mkdir(self.folder, 0o700)
        except FileExistsError as error:
            raise Refused(f"laboratory '{self.name}' is up, or has not been taken down") from error
        self.shares = shares
        for number in range(1, num_hosts + 1):
            self.hosts[f"h{number}"] = {"name": f"h{number}", "number": number, "nets": ["fabric", "outside"]}
        for number in range(1, num_outsiders + 1):
            self.hosts[f"x{number}"] = {"name": f"x{number}", "number": 100 + number, "nets": ["outside"]}
        for place, host in enumerate(self.hosts.values(), 1):
            host["clock"] = clocks.get(host["name"], place * 10 * DAY)
        os.mkdir(f"{self.folder}/state")

        def prepare(where):
            if where == "inside":
                mount(None, "/", None, MS_REC | MS_PRIVATE)
                mount("tmpfs", f"{self.folder}/state", "tmpfs")
                for name in self.hosts:
                    os.mkdir(f"{self.folder}/state/{name}")
                    mount("tmpfs", f"{self.folder}/state/{name}", "tmpfs", 0, "mode=700")
                no_ipv6()
        switch = start_holder(prepare, ["mnt", "net"], self.name, "switch")
        in_net(switch, "ip", "-batch", "-", text="".join(
            f"link add br-{net} type bridge\nlink set br-{net} up\n" for net in NETS))
        for name in self.hosts:
            self.boot(name, switch)
        self.save()

    def boot(self, name, switch):
        host = self.hosts[name]

        def prepare(where):
            if where == "before":  # the switch's mounts have the state folders
                with open(f"/proc/{switch}/ns/mnt") as file:
                    call("setns", file.fileno(), KINDS["mnt"])
            elif where == "outside":
                set_clock(host["clock"])
            else:
                set_up_host(host, self, self.shares)
        pid = start_holder(prepare, list(KINDS), self.name, name)
        lines = []
        for net in host["nets"]:
            link = port(name, net)
            lines += [f"link add {link} type veth peer name {net}0 netns {pid}",
                      f"link set {link} master br-{net}", f"link set {link} up"]
        in_net(switch, "ip", "-batch", "-", text="\n".join(lines) + "\n")
        lines = ["link set lo up"]
        for net in host["nets"]:
            lines += [f"link set {net}0 address {mac(host, net)}",
                      f"address add {address(host, net)}/24 dev {net}0", f"link set {net}0 up"]
        in_net(pid, "ip", "-batch", "-", text="\n".join(lines) + "\n")
        in_net(pid, "iptables-restore", "--noflush",
               text="*filter\n:NETLAB - [0:0]\n-A INPUT -j NETLAB\nCOMMIT\n")

    def crash(self, name):
        """The host is gone as by a loss of power: nobody hears of the end of its connections."""
        pid, switch = self.pid_of(name), self.pid_of("switch")
        in_net(switch, "ip", "-batch", "-", text="".join(
            f"link set {port(name, net)} down\n" for net in self.hosts[name]["nets"]))
        wires = [pid for holder, pid in holders(self.name)[self.name].items()
                 if re.fullmatch(rf"wire-{name}-\w+", holder)]
        end([pid])
        end(wires)
        # a namespace goes some time after its last process, and its interfaces with it
        left = [port(name, net) for net in self.hosts[name]["nets"]] + [f"w-{port(name, net)}" for net in NETS]
        for link in left:
            with contextlib.suppress(Refused):
                in_net(switch, "ip", "link", "delete", link)

    def down(self):
        """true: there was something."""
        mine = {os.getpid(), os.getppid()}
        there = os.path.isdir(self.folder)
        until = time.monotonic() + 30
        while True:
            pids = [pid for pid in holders(self.name).get(self.name, {}).values() if pid not in mine]
            if not pids:
                break
            there = True
            if time.monotonic() > until:
                raise Refused(f"processes {pids} do not end")
            end(pids)
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rmdir(LABS)
        return there

    # ---- faults
    def apply(self):
        """Every host drops, resets and delays what the rules say, and nothing else."""
        running = holders(self.name).get(self.name, {})
        for name, host in self.hosts.items():
            if name not in running:
                continue
            lines = []
            for rule in self.rules:
                if rule["to"] != name or rule["kind"] not in ("drop", "reset"):
                    continue
                source = f"-A NETLAB -i {rule['net']}0 -s {address(self.hosts[rule['from']], rule['net'])}/32"
                if rule["kind"] == "reset":  # what is no reset itself
                    lines.append(f"{source} -p tcp ! --tcp-flags RST RST -j REJECT --reject-with tcp-reset")
                elif rule["share"] < 1:
                    lines.append(f"{source} -m statistic --mode random --probability {rule['share']} -j DROP")
                else:
                    lines.append(f"{source} -j DROP")
            in_net(running[name], "iptables-restore", "--noflush",
                   text="\n".join(["*filter", ":NETLAB - [0:0]", *lines, "COMMIT", ""]))
            for net in host["nets"]:
                self.set_wire(running, name, net)

    def set_wire(self, running, name, net):
        """A wire between the host's link and the bridge, while a rule of delay or rate needs one."""
        holder, link, switch = f"wire-{name}-{net}", port(name, net), running["switch"]
        lines = []
        for to in self.hosts:
            values = {rule["kind"]: rule for rule in self.rules
                      if (rule["from"], rule["to"], rule["net"]) == (name, to, net)}
            settings = []
            if "delay" in values:
                settings += [f"delay_us={values['delay']['ms'] * 1000}",
                             f"jitter_us={values['delay']['jitter_ms'] * 1000}"]
            if "rate" in values:
                settings += [f"bytes_per_s={int(values['rate']['mbit'] * 125000)}"]
            if settings:
                lines.append(f"> {mac(self.hosts[to], net)} {' '.join(settings)}")
        path = f"{self.folder}/{holder}"
        if not lines and holder not in running:
            return
        with open(path, "w") as file:
            file.write("\n".join(lines) + "\n")
        if holder not in running:
            in_net(switch, "ip", "-batch", "-", text="\n".join(
                [f"link add w-{link} type veth peer name v-{link}", f"link set w-{link} up",
                 f"link set v-{link} master br-{net}", f"link set v-{link} up"]) + "\n")
            self.start_wire(switch, holder, link, path)
            in_net(switch, "ip", "link", "set", link, "nomaster")
            return
        if lines:
            os.kill(running[holder], signal.SIGHUP)
            until = time.monotonic() + 30
            while os.path.exists(path):
                if time.monotonic() > until or not is_running(running[holder]):
                    raise Refused(f"{holder} does not take its rules")
                time.sleep(0.002)
            return
        os.unlink(path)
        in_net(switch, "ip", "link", "set", link, "master", f"br-{net}")
        end([running[holder]])
        in_net(switch, "ip", "link", "delete", f"w-{link}")

    def start_wire(self, switch, holder, link, path):
        program = os.environ.get("EEP_WIRE") or os.path.join(ROOT, "build/experiments/eep-wire")
        program = program if os.path.exists(program) else shutil.which("eep-wire")
        if not program:
            raise Refused("eep-wire is neither in build/experiments nor in PATH; EEP_WIRE names it")
        with open(f"/proc/{switch}/ns/net") as file:
            wire = subprocess.Popen(
                [program, "--first", link, "--second", f"w-{link}", "--rules", path],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, start_new_session=True,
                env={**os.environ, HOLDER: f"{self.name}/{holder}"},
                preexec_fn=lambda: call("setns", file.fileno(), KINDS["net"]))
        if not wire.stdout.readline().startswith("eep-wire: ready"):
            raise Refused(f"{holder}: {wire.stderr.read().strip()}")

    def pairs(self, sources, targets):
        for name in (*sources, *targets):
            if name not in self.hosts:
                raise Refused(f"'{name}' is no host of laboratory '{self.name}': {', '.join(self.hosts)}")
        return [(source, target) for source in sources for target in targets if source != target]

    def add_rules(self, kind, pairs, nets, **values):
        for source, target in pairs:
            for net in nets:
                if net not in self.hosts[source]["nets"] or net not in self.hosts[target]["nets"]:
                    continue
                self.rules = [rule for rule in self.rules
                              if (rule["kind"], rule["from"], rule["to"], rule["net"]) != (kind, source, target, net)]
                self.rules.append({"kind": kind, "from": source, "to": target, "net": net, **values})

    # ---- commands inside
    def run(self, name, command, directory):
        """Run the command in the host; returns its exit status, 128 + N for signal N."""
        host, pid = self.hosts.get(name), self.pid_of(name)
        spaces = {kind: open(f"/proc/{pid}/ns/{kind}") for kind in KINDS}
        call("setns", spaces["pid"].fileno(), KINDS["pid"])
        child = os.fork()
        if child == 0:
            try:
                LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                for kind in ("time", "ipc", "uts", "net", "mnt"):
                    call("setns", spaces[kind].fileno(), KINDS[kind])
                with contextlib.suppress(OSError):
                    os.chdir(directory)
                environment = {key: value for key, value in os.environ.items() if key != HOLDER}
                environment.update({"EEP_HOST_ID": f"{self.name}-{name}", "EEP_NETLAB_HOST": name,
                                    "EEP_STATE_DIR": STATE_PATH, "TMPDIR": "/tmp"})
                for net in host["nets"]:
                    environment[ADDRESS_NAMES[net]] = address(host, net)
                os.execvpe(command[0], command, environment)
            except OSError as error:
                print(f"netlab: {name}: {command[0]}: {error.strerror}", file=sys.stderr)
                sys.stderr.flush()
            os._exit(127)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda number, _: os.kill(child, number))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child too
        status = os.waitpid(child, 0)[1]
        return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
