# SPDX-License-Identifier: Apache-2.0
"""An instance whose ranks a launcher starts: `with Launched(BUILD) as it:` has a store, and tells
what the ranks say, which are processes of host_rank.c. The test calls the launcher."""
import contextlib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
DEPLOY = f"{ROOT}/examples/deploy"
BOUND_S = 60  # of waits for what must come; no healthy run comes near it
RANKS = 4


class Left(Exception):
    """A test that this machine cannot run, and why."""


def need(*programs):
    """All of them are here, and this is root where `root` is among them."""
    for program in programs:
        if program == "root" and os.getuid() != 0:
            raise Left("needs root")
        if program != "root" and not shutil.which(program):
            raise Left(f"no {program} here")


def until(holds, what):
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < BOUND_S, f"{what() if callable(what) else what} not within {BOUND_S} s"
        time.sleep(0.02)


def outer_pid(pid, namespace):
    """Of a process that has `pid` in the namespace with that inode; 0: it is gone."""
    if os.stat("/proc/self/ns/pid").st_ino == namespace:
        return pid
    for status in glob.glob("/proc/[0-9]*/status"):
        folder = os.path.dirname(status)
        with contextlib.suppress(OSError):
            with open(status, encoding="utf-8") as file:
                numbers = re.search(r"^NSpid:(.*)$", file.read(), re.M).group(1).split()
            if numbers[-1] == str(pid) and os.stat(f"{folder}/ns/pid").st_ino == namespace:
                return int(numbers[0])
    return 0


class Process:
    """A rank's process, by the file that it writes."""

    def __init__(self, path):
        self.path = path
        self.seat, pid, namespace = map(int, re.fullmatch(r"rank-(\d+)-(\d+)-(\d+)\.json", os.path.basename(path)).groups())
        self.pid = outer_pid(pid, namespace)

    def lines(self):
        with open(self.path, encoding="utf-8") as file:
            return [json.loads(line) for line in file.read().splitlines() if line.endswith("}")]

    def lives(self):
        try:
            with open(f"/proc/{self.pid}/stat", encoding="utf-8") as file:
                return file.read().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    def parent(self):
        with open(f"/proc/{self.pid}/stat", encoding="utf-8") as file:
            return int(file.read().rpartition(")")[2].split()[1])

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)


class Launched:
    def __init__(self, build):
        self.build = os.path.realpath(build)
        self.engine = f"{self.build}/tests/host_rank"
        self.folder = tempfile.mkdtemp(prefix="eep-launch-")
        self.says = f"{self.folder}/says"
        os.mkdir(self.says)
        self.children, self.logs = [], []
        # A launcher of the test's own process would be one too many.
        self.environment = {name: value for name, value in os.environ.items()
                            if not re.match(r"(EEP|SLURM|SBATCH|OMPI|PMIX?|LWS)_|(LOCAL_)?RANK$|(LOCAL_)?WORLD_SIZE$", name)}
        self.environment["EEP_STORE"] = f"{self.folder}/store"

    def __enter__(self):
        store = self.start([f"{self.build}/experiments/eep-store", "--path", f"{self.folder}/store"],
                           stdout=subprocess.PIPE)
        assert "ready" in store.stdout.readline(), "no store"
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            print(self.story())
        self.tell_the_end()
        for process in self.processes():
            if process.lives():
                process.kill()
        for child in self.children:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()
        for name in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
            with contextlib.suppress(OSError):  # ranks and daemons that a launcher left: they name the folder
                with open(name, "rb") as file:
                    if self.folder.encode() in file.read():
                        os.kill(int(name.split("/")[2]), signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, command, *, stdout=None, **environment):
        """A process of the test's; what it writes is shown where the test fails."""
        log = open(f"{self.folder}/log-{len(self.logs)}", "w", encoding="utf-8")
        self.logs.append(log.name)
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log, text=True,
                                 cwd=self.folder, env={**self.environment, **environment})
        log.close()
        self.children.append(child)
        return child

    def run(self, command, **environment):
        """A command that ends; its output."""
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOUND_S,
                              cwd=self.folder, env={**self.environment, **environment}, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def log(self):
        text = ""
        for name in self.logs:
            if os.path.exists(name):
                with open(name, encoding="utf-8", errors="replace") as file:
                    text += file.read()
        return text

    def write_key(self):
        """The job's key, in `key` of the folder."""
        with open(f"{self.folder}/key", "w", opener=lambda path, flags: os.open(path, flags, 0o600), encoding="utf-8") as key:
            key.write(os.urandom(32).hex() + "\n")

    def story(self):
        said = "\n".join(f"{process.path}: {process.lines()}" for process in self.processes())
        return f"{said}\n{self.log()[-4000:]}"

    def processes(self):
        return [Process(path) for path in sorted(glob.glob(f"{self.says}/rank-*.json"), key=os.path.getmtime)]

    def living(self):
        return {process.seat: process for process in self.processes() if process.lives()}

    def await_view(self, active, more_than=0):
        """All living ranks step with so many, in a view behind epoch `more_than`; that epoch."""
        def last(process):
            views = [line for line in process.lines() if "with" in line]
            return (views[-1]["with"], views[-1]["epoch"]) if views else (0, 0)

        def holds():
            views = {last(process) for process in self.living().values()}
            return len(self.living()) == active and len(views) == 1 and all(
                with_ == active and epoch > more_than for with_, epoch in views)

        until(holds, lambda: f"no view of {active} ranks behind epoch {more_than}: {self.story()}")
        return last(next(iter(self.living().values())))[1]

    def lose(self, seat, epoch, parent=False, rank=True):
        """SIGKILL for the rank, for its parent, which is its own, or for both. The others serve on."""
        process = self.living()[seat]
        begin = time.monotonic()
        if parent:
            os.kill(process.parent(), signal.SIGKILL)
        if rank:
            process.kill()
        self.await_others([seat], epoch)
        return time.monotonic() - begin

    def await_others(self, lost, epoch):
        """The ranks but those of the seats in `lost` have stepped without these, behind that epoch."""
        until(lambda: all(any(line.get("with") == RANKS - len(lost) and line["epoch"] > epoch for line in other.lines())
                          for other in self.living().values() if other.seat not in lost),
              lambda: f"the others do not serve on: {self.story()}")

    def tell_the_end(self):
        with open(f"{self.says}/end", "w", encoding="utf-8"):
            pass

    def end(self, lost):
        """All ranks end; no row of any was wrong. `lost`: processes that were killed."""
        self.tell_the_end()
        until(lambda: not self.living(), "the end of all ranks")
        ended = [line for process in self.processes() for line in process.lines() if "ended" in line]
        assert len(ended) == RANKS and len(self.processes()) == RANKS + lost, self.story()
        assert all(line["wrong"] == 0 and line["ended"] > 0 for line in ended), self.story()
        return f"{sum(line['ended'] for line in ended)} steps, 0 wrong rows"
