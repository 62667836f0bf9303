# SPDX-License-Identifier: Apache-2.0
"""What the measurement scripts share: starting eep-run, reading what it left, quantiles, and row
files that say in comment lines how they were made."""

import csv
import fcntl
import io
import json
import os
import platform
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DISTURBED_SHARE = 0.08  # of the machine's CPU time, used by others during a run
LONGEST_END_S = 20  # of an eep-run that is told to end
COUNTERS = ("steps_aborted_by_join", "steps_waiting_on_join")


class Failure(Exception):
    """The campaign cannot go on; the text says why."""


def quantile(values, percent):
    """Nearest rank, as in summary.json: the smallest value that `percent` % do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


def describe(values, unit="ms"):
    """n, min, p50, p99 and max on one line."""
    return (f"n {len(values)}  min {min(values):.2f}  p50 {quantile(values, 50):.2f}  "
            f"p99 {quantile(values, 99):.2f}  max {max(values):.2f} {unit}")


def add_common_options(parser, default_out, has_ranks=True):
    """The options that every campaign has. `has_ranks`: how many ranks is for the caller to say."""
    parser.add_argument("--out", metavar="DIR", default=default_out,
                        help="folder for the row files (default %(default)s)")
    parser.add_argument("--bin", metavar="DIR", default=os.path.join(ROOT, "build/experiments"),
                        help="folder of eep-run (default: build/experiments of this checkout)")
    parser.add_argument("--keep-runs", metavar="DIR",
                        help="keep the folder that each eep-run leaves, in DIR")
    if has_ranks:
        parser.add_argument("--ranks", type=positive, default=8, metavar="N",
                            help="rank processes (default %(default)s)")
    parser.add_argument("--seed", type=positive, default=1, metavar="N",
                        help="seed of the first run; each further one adds 1 (default %(default)s)")
    parser.add_argument("--note", default="", metavar="TEXT",
                        help="a remark for the comment lines, e.g. what else the machine did")


def positive(text):
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def count(text):
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def verdict(name, holds, text):
    """Show one bar; its own answer, so that all are shown before one is drawn from them."""
    print(f"{'met   ' if holds else 'MISSED'}  {name}: {text}")
    return holds


class Output(io.TextIOBase):
    """Standard output that may be a closed pipe or a full device: what is printed then is lost, and
    the campaign goes on."""

    def __init__(self, file):
        super().__init__()
        self.file, self.lost = file, None

    def _try(self, call, *arguments):
        try:
            if not self.lost:
                call(*arguments)
        except OSError as error:
            self.lost = error
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())

    def write(self, text):
        self._try(self.file.write, text)
        return len(text)

    def flush(self):
        self._try(self.file.flush)

    def isatty(self):
        return self.file.isatty()


def interrupt(number, _):
    raise KeyboardInterrupt(signal.Signals(number).name)


def finish(main, name):
    """Run main() of a script: 0 all bars met, 1 one missed, 2 it could not be measured. A signal to
    end leaves the rows so far, and no eep-run behind."""
    output = sys.stdout = Output(sys.stdout)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    code = 2
    try:
        code = main()
    except SystemExit as error:  # of the command line
        code = error.code
    except (Failure, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; "
              f"{'the rows so far are kept' if Rows.num_begun else 'there are no rows yet'}",
              file=sys.stderr)
    output.flush()
    if output.lost:
        print(f"{name}: standard output cannot be written: {output.lost.strerror}: what was "
              "printed is lost", file=sys.stderr)
        code = code or 1
    sys.exit(code)


# ---------------------------------------------------------------- one run


class Run:
    """One eep-run that has ended; all times in ms since serving started."""

    def __init__(self, directory, foreign_share, is_whole=False):
        self.foreign_share = foreign_share
        path = os.path.join(directory, "summary.json")
        try:
            with open(path, encoding="utf-8") as file:
                self.summary = json.load(file)
        except (OSError, ValueError) as error:
            raise Failure(f"{path}: {error}") from error
        self.steps = read_csv(os.path.join(directory, "steps.csv"), {
            "seat": int, "generation": int, "step": int, "epoch": int, "begin_ms": float,
            "end_ms": float, "tokens": int, "positions": int, "status": int})
        self.events = read_csv(os.path.join(directory, "events.csv"), {
            "time_ms": float, "seat": int, "generation": int, "kind": str, "about_seat": int,
            "about_generation": int, "epoch": int, "value": int})
        path = os.path.join(directory, "sources.csv")
        self.sources = read_csv(path, {"time_ms": float, "seat": int, "tier": str, "source": str,
                                       "fills": int, "bytes": int}) if os.path.exists(path) else []
        self.startup, self.tokens = [], []  # tokens: times, of which a long run has many
        if is_whole:
            self.startup = read_csv(os.path.join(directory, "startup.csv"),
                                    {"start": str, "cached": str})
            tokens = read_csv(os.path.join(directory, "tokens.csv"), {"time_ms": float})
            self.tokens = [token["time_ms"] for token in tokens]

    def durations(self, begin_ms, end_ms, without_seat=-1):
        """Of the steps that ended well and began in [begin_ms, end_ms), of all seats but one."""
        return [step["end_ms"] - step["begin_ms"] for step in self.steps
                if step["status"] == 0 and begin_ms <= step["begin_ms"] < end_ms
                and step["seat"] != without_seat]


def read_csv(path, columns):
    """The named columns of a CSV file with optional `#` lines before its header."""
    rows = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(line for line in file if not line.startswith("#"))
            missing = set(columns) - set(reader.fieldnames or ())
            if missing:
                raise Failure(f"{path}: no column {', '.join(sorted(missing))}")
            for row in reader:
                rows.append({name: kind(row[name]) for name, kind in columns.items()})
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise Failure(f"{path}: {error}") from error
    return rows


class ForeignLoad:
    """What others used of the machine since this was made: everything that was not our children."""

    def __init__(self):
        self.begin = self._now()

    @staticmethod
    def _now():
        """Wall clock, busy CPU time of the machine, CPU time of children that ended; seconds."""
        with open("/proc/stat", encoding="utf-8") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
        busy = sum(fields) - fields[3] - fields[4]  # without idle and iowait, with steal
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (time.monotonic(), busy / os.sysconf("SC_CLK_TCK"),
                children.ru_utime + children.ru_stime)

    def share(self):
        """Of all CPUs, 0 to 1. Ticks are coarse, so a short run can give a little below 0."""
        wall, busy, own = (now - then for now, then in zip(self._now(), self.begin))
        return max((busy - own) / (wall * os.cpu_count()), 0.0)


def run_to_end(command):
    """A program with all that it printed. If we are interrupted, so is it: it ends in order."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, its exit code would be lost
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as process:
        try:
            text, _ = process.communicate()
        except BaseException:
            process.terminate()
            try:
                process.communicate(timeout=LONGEST_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, text)


def run_eep(options, arguments, name, is_whole=False):
    """Run eep-run, read what it left (`is_whole`: startup.csv and the times of tokens too), and throw that away unless it is to be kept. A run that is
    not good is still returned: the caller decides (its exit code 1 has a summary)."""
    program = os.path.join(options.bin, "eep-run")
    if not os.access(program, os.X_OK):
        raise Failure(f"{program} is not there: build first, or name its folder with --bin")
    scratch, meter = None, ForeignLoad()
    if options.keep_runs:
        directory = os.path.join(options.keep_runs, name)
        os.makedirs(options.keep_runs, exist_ok=True)
    else:
        scratch = tempfile.mkdtemp(prefix="eep-measure-")
        directory = os.path.join(scratch, "run")
    command = [program, "--quiet", "--ranks", str(options.ranks), "--out", directory] + arguments
    command += [] if options.keep_runs else ["--no-picture"]
    try:
        done = run_to_end(command)
        foreign = meter.share()
        if done.returncode not in (0, 1) or not os.path.exists(f"{directory}/summary.json"):
            tail = "\n".join(done.stdout.splitlines()[-15:])
            raise Failure(f"exit {done.returncode} of: {shlex.join(command)}\n{tail}")
        if done.returncode:
            print(f"NOT GOOD: {shlex.join(command)}", file=sys.stderr)
            print("\n".join(done.stdout.splitlines()[-8:]), file=sys.stderr)
        return Run(directory, foreign, is_whole)
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


def faults_of_run(run):
    """What makes a run's figures worthless, as text; empty if nothing does."""
    summary = run.summary
    found = []
    if not summary.get("good"):
        found.append("eep-run calls the run not good")
    for key in ("tokens_wrong", "digests_wrong", "tokens_missing", "tokens_doubled",
                "requests_lost", "requests_failed"):
        if summary.get(key):
            found.append(f"{key} = {summary[key]}")
    if summary["captures_after_start"]["healthy"]:
        found.append("a healthy rank captured a graph")
    return "; ".join(found)


# ---------------------------------------------------------------- row files


def machine_lines(summary, note):
    """How rows were made: commit, machine, versions, command."""
    model = "unknown CPU"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    versions = " ".join(f"{key} {value}" for key, value in summary["versions"].items())
    lines = [f"commit {commit()} (eep-run was built from {summary['commit']})",
             f"machine {model}, {len(os.sched_getaffinity(0))} cores, "
             f"{platform.system()} {platform.release()}, "
             f"load {os.getloadavg()[0]:.2f} when this file was begun",
             f"versions {versions} python {platform.python_version()}",
             f"command {shlex.join([os.path.relpath(sys.argv[0], ROOT)] + sys.argv[1:])}"]
    if note:
        lines.append(f"note {note}")
    return lines


def commit():
    """Short commit of the checkout, with + if files differ from it."""
    def git(*arguments):
        return subprocess.run(["git", "-C", ROOT, *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, check=True).stdout.strip()
    try:
        changed = git("--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def hold(path):
    """The file, for us alone, with what is in it. A folder that is missing is made."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    file = HeldFile(open(path, "ab", buffering=0))
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        try:
            file.take_lock(os.path.realpath(path) + ".lock")
        except BlockingIOError:
            file.close()
            raise Failure(f"{path}: another campaign writes into it now; "
                          "give another --out") from None
        except OSError:
            pass  # no place for a lock, or a file system without
    return file


class HeldFile(io.TextIOWrapper):
    """A file to write that is ours while it is open. The lock is a file of its own of mode 0600:
    whoever may read a file may lock it, and other users shall not keep us out."""
    lock_path = lock = None

    def __init__(self, raw):
        super().__init__(io.BufferedWriter(raw), encoding="utf-8", newline="")

    def take_lock(self, path):
        for _ in range(8):
            lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
            info = os.fstat(lock)
            try:
                if not stat.S_ISREG(info.st_mode) or info.st_uid not in (os.geteuid(), 0):
                    raise PermissionError(f"{path} is another's")
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                raise
            if os.fstat(lock).st_nlink:
                self.lock, self.lock_path = lock, path
                return
            os.close(lock)  # its owner has removed it between our open and our lock

    def close(self):
        super().close()
        if self.lock is not None:
            os.unlink(self.lock_path)
            os.close(self.lock)
            self.lock = None


def empty(file):
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.truncate(0)


def open_alone(path):
    """The file, empty and for us alone: another campaign's that still writes is not emptied."""
    file = hold(path)
    empty(file)
    return file


class Rows:
    """A CSV file with comment lines before its header; complete after every row. To be made before
    anything is measured, so that a place that cannot be written costs no figures; what an older
    campaign left there stays until `begin`."""
    num_begun = 0  # of all of them

    def __init__(self, path, columns):
        self.columns, self.begun = columns, False
        self.path, self.is_new = path, not os.path.lexists(path)
        self.file = hold(path)

    def begin(self, summary, note):
        """The lines before the rows, of the first run; later calls do nothing."""
        if self.begun:
            return
        self.begun = True
        Rows.num_begun += 1
        empty(self.file)
        for line in machine_lines(summary, note):
            self.file.write(f"# {line}\n")
        self.file.write(",".join(self.columns) + "\n")
        self.file.flush()

    def add(self, values):
        """One row from a dict with every column."""
        self.file.write(",".join(text_of(values[name]) for name in self.columns) + "\n")
        self.file.flush()

    def close(self):
        """One that has no rows, and was not there before, goes."""
        if not self.begun and self.is_new and not self.file.closed:
            os.unlink(self.path)
        self.file.close()

    def __del__(self):
        if hasattr(self, "file"):
            self.close()


def text_of(value):
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
