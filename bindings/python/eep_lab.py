"""Run and control eep-run from Python: start an instance, kill and rejoin its ranks while it
serves, ask how it is, and read what came of it. The standard library is all it needs.

    from eep_lab import Run

    with Run(ranks=4, slots=32, keep_busy=8) as run:
        run.kill(3)
        run.wait("settled", timeout=10)
        run.rejoin(3)
        run.wait("settled", timeout=10)
        summary = run.finish()
    print(summary["good"], summary["faults"][0]["pause_ms"])

The words (rank, generation, epoch, settled) are those of docs/CONTROL.md and docs/SUMMARY.md. A Run
is for one thread; its event streams have connections of their own and may be read from others.
"""

from __future__ import annotations

import concurrent.futures
import csv
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional, Sequence, Union

__all__ = ["EepError", "Refused", "WaitTimeout", "EventStream", "Run", "find_eep_run", "pauses_ms",
           "sweep"]

Who = Union[int, str, Sequence[int]]
"""A rank, several, or a text such as "random:2", "lowest", "3@ready:5" (eep-ctl --help)."""


class EepError(RuntimeError):
    """eep-run did not start, hung up, or did not answer in time."""


class Refused(EepError):
    """The run refused a command; the text says why."""


class WaitTimeout(Refused, TimeoutError):
    """What `Run.wait` waits for is not so within its time; the text says what holds it up."""


def find_eep_run() -> str:
    """The eep-run program: $EEP_RUN, the build folder beside this file's tree, or $PATH."""
    given = os.environ.get("EEP_RUN")
    if given:
        return given
    built = pathlib.Path(__file__).resolve().parents[2] / "build" / "experiments" / "eep-run"
    found = str(built) if os.access(built, os.X_OK) else shutil.which("eep-run")
    if not found:
        raise EepError("no eep-run: build it, or name it in the environment variable EEP_RUN")
    return found


def _words(options: Mapping[str, Any]) -> list[str]:
    """ranks=4, kill=["1@2", "3@4"], force=True -> --ranks=4 --kill=1@2 --kill=3@4 --force"""
    words = []
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is True:
                words.append(option)
            elif one is not None and one is not False:
                words.append(f"{option}={one}")
    return words


def _rank(rank: Any) -> str:
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 0:
        raise ValueError(f"{rank!r} is no rank: an int from 0, several of them, or a text such as "
                         "'random:2'")
    return str(rank)


def _several(who: Any) -> Sequence[Any]:
    try:
        return list(who)
    except TypeError:
        return [who]  # _rank says what is wrong with it


def _what(who: Optional[Who], value: Optional[str] = None, when: Optional[str] = None) -> str:
    """WHO[=VALUE][@WHEN] of the grammar."""
    if who is None:
        text = value or ""
    else:
        text = who if isinstance(who, str) else ",".join(map(_rank, [who] if isinstance(who, int)
                                                             else _several(who)))
        text += f"={value}" if value else ""
    return text + (f"@{when}" if when else "")


MOST_SECONDS = 60  # of a stop or the like: what is longer was meant in milliseconds


def _duration(verb: str, duration: Optional[str], seconds: Optional[float]) -> Optional[str]:
    """What stands for it in the grammar. A number needs its unit: in its name or in the text."""
    if seconds is not None:
        if duration is not None:
            raise ValueError(f"{verb}: both a duration, {duration!r}, and seconds={seconds:g}")
        if isinstance(seconds, bool) or not 0 < seconds <= MOST_SECONDS:
            raise ValueError(f"{verb}: seconds={seconds!r} is not between 0 and {MOST_SECONDS}; are "
                             f"these milliseconds? A longer one is written '{seconds}s'")
        return f"{seconds:g}s"
    if duration is not None and (not isinstance(duration, str) or duration[-1:].isdigit()):
        raise ValueError(f"{verb}: the duration {duration!r} has no unit: seconds=0.4, '400ms' or "
                         "'0.9x' (of --expel-ms)")
    return duration


class _Connection:
    """Lines of JSON over the control socket."""

    def __init__(self, path: str, pid: Optional[int] = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._rest = b""
        self._last_id = 0
        try:
            self._socket.connect(path)
            peer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED,
                                           struct.calcsize("3i"))
            process, user, _ = struct.unpack("3i", peer)
            if user not in (0, os.geteuid()):
                raise EepError(f"'{path}': the process behind it is of user {user}, not ours")
            if pid not in (None, process):  # a run that had the folder before
                raise ConnectionRefusedError(f"'{path}' is of process {process}, not {pid}")
        except (OSError, EepError):
            self._socket.close()
            raise

    def send(self, request: Mapping[str, Any]) -> None:
        try:
            self._socket.settimeout(10)
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise EepError(f"the run hung up: {error}") from None

    def receive(self, timeout: Optional[float]) -> Optional[dict[str, Any]]:
        """The next line; None: the run hung up. TimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._rest:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return json.loads(line.decode(errors="replace"))

    def ask(self, request: Mapping[str, Any], timeout: Optional[float]) -> dict[str, Any]:
        self._last_id += 1
        self.send({**request, "id": self._last_id})
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            try:
                answer = self.receive(left)
            except TimeoutError:
                raise EepError(f"no answer to {dict(request)} within {timeout:g} s") from None
            if answer is None or answer.get("id") == self._last_id:
                break
            if "id" not in answer and answer.get("ok") is False:
                break  # turned away: too many connections
            # others answer what was asked and given up before
        if answer is None:
            raise EepError("the run has ended")
        if not answer.get("ok"):
            kind = WaitTimeout if answer.get("timeout") else Refused
            raise kind(answer.get("error", "refused"))
        return answer

    def is_closed(self) -> bool:
        return self._socket.fileno() < 0

    def close(self) -> None:
        self._socket.close()


class EventStream:
    """The events of a run from the moment of its making on, as dictionaries; the last one has
    "event": "end". An iterator and a context manager."""

    def __init__(self, path: str) -> None:
        self._connection = _Connection(path)
        self._over = False
        self._connection.ask({"do": "watch"}, 10)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def next(self, timeout: Optional[float] = None) -> Optional[dict[str, Any]]:
        """The next event within `timeout` seconds; None after the last. TimeoutError."""
        event = None if self._over else self._connection.receive(timeout)
        self._over = event is None or event.get("event") == "end"
        return event

    def until(self, kind: str, seat: Optional[int] = None, timeout: float = 30) -> dict[str, Any]:
        """The next event of that kind (of that seat). EepError if it does not come."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                event = self.next(max(deadline - time.monotonic(), 0))
            except TimeoutError:
                raise EepError(f"no event '{kind}' within {timeout:g} s") from None
            if event is None:
                raise EepError(f"the run ended without an event '{kind}'")
            if event.get("event") == kind and seat in (None, event.get("seat")):
                return event

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _keep_exit_codes() -> None:
    """A process that ignores SIGCHLD does not learn how its children end."""
    if (signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
            and threading.current_thread() is threading.main_thread()):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class Run:
    """One run of eep-run, started at once; a context manager, which finishes it at the end.

    Keyword options are those of eep-run with _ for -: Run(ranks=4, keep_busy=8, kill="3@1"). A list
    repeats an option, True is an option without a value. Unless serve=False is given it runs until
    `finish`. Commands that cannot be done raise Refused; they return the ranks they were done to
    (an empty list while they wait for their time).

    out: the folder of its results; by default a temporary one that `close` removes.
    program: the eep-run to start (find_eep_run). start_timeout: seconds until it must serve.
    """

    def __init__(self, out: Union[str, os.PathLike[str], None] = None, *,
                 program: Optional[str] = None, start_timeout: float = 60, **options: Any) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="eep-lab-") if out is None else None
        self.out = pathlib.Path(self._temporary.name if self._temporary else os.fspath(out or ""))
        self._log = tempfile.TemporaryFile(mode="w+", errors="replace")
        self._summary: Optional[dict[str, Any]] = None
        self._connection: Optional[_Connection] = None
        self.command = [program or find_eep_run(), "--quiet", f"--out={self.out}",
                        *_words({"serve": True, "no_picture": out is None, **options})]
        _keep_exit_codes()
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self._log,
                                        stderr=subprocess.STDOUT)
        try:
            self._connect(start_timeout)
            self.wait("settled", start_timeout)
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------ the connection

    def _path(self) -> str:
        pointer = self.out / "control.path"
        try:
            return pointer.read_text().strip()
        except OSError:
            return str(self.out / "control.sock")

    def _connect(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._connection = _Connection(self._path(), self.process.pid)
                return
            except OSError as error:
                if self.process.poll() is not None:
                    code = self.process.returncode
                    raise EepError(f"eep-run ended with code {code}:\n{self.log()}") from None
                if time.monotonic() > deadline:
                    raise EepError(f"no control socket after {timeout:g} s: {error}") from None
                time.sleep(0.02)  # it has no way to tell us yet

    def _ask(self, timeout: Optional[float] = 10, **request: Any) -> dict[str, Any]:
        if not self._connection:
            raise EepError("the run is closed")
        answered = False
        try:
            if self._connection.is_closed():
                self._connection = _Connection(self._path(), self.process.pid)
            answer = self._connection.ask(request, timeout)
            answered = True
            return answer
        except Refused:
            answered = True
            raise
        except (EepError, OSError) as error:
            raise EepError(f"{error}\n{self.log()}") from None
        finally:
            if not answered:  # also when interrupted: a wait given up would block later ones
                self._connection.close()

    def log(self) -> str:
        """What eep-run has printed so far."""
        self._log.seek(0)
        return self._log.read()

    # ------------------------------------------------------------ verbs

    def do(self, verb: str, what: str = "") -> list[int]:
        """Any verb of eep-ctl with its text, e.g. do("kill", "random:2@step:100")."""
        return self._ask(do=verb, what=what)["seats"]

    def kill(self, who: Who, when: Optional[str] = None) -> list[int]:
        """SIGKILL."""
        return self.do("kill", _what(who, None, when))

    def abort(self, who: Who, when: Optional[str] = None) -> list[int]:
        """SIGABRT, as after a failed assertion."""
        return self.do("abort", _what(who, None, when))

    def stop(self, who: Who, duration: Optional[str] = None, when: Optional[str] = None, *,
             seconds: Optional[float] = None) -> list[int]:
        """SIGSTOP; SIGCONT after `duration` ("400ms", "1.5s") or `seconds`, if one is given."""
        return self.do("stop", _what(who, _duration("stop", duration, seconds), when))

    def cont(self, who: Who, when: Optional[str] = None) -> list[int]:
        """SIGCONT."""
        return self.do("cont", _what(who, None, when))

    def slow(self, who: Who, factor: float, duration: Optional[str] = None,
             when: Optional[str] = None, *, seconds: Optional[float] = None) -> list[int]:
        """Steps take `factor` times as long, for `duration` or `seconds` or for good; 1 ends that.
        """
        duration = _duration("slow", duration, seconds)
        value = f"{factor:g}" + (f"/{duration}" if duration else "")
        return self.do("slow", _what(who, value, when))

    def die(self, who: Who, place: str, when: Optional[str] = None) -> list[int]:
        """It kills itself inside its next step: at "dispatch", "experts" or "combine"."""
        return self.do("die", _what(who, place, when))

    def freeze(self, who: Who, place: str, duration: Optional[str] = None,
               when: Optional[str] = None, *, seconds: Optional[float] = None) -> list[int]:
        """It stops itself inside its next step, there; SIGCONT after `duration` or `seconds`, if
        one is given."""
        duration = _duration("freeze", duration, seconds)
        return self.do("freeze", _what(who, place + (f"/{duration}" if duration else ""), when))

    def rejoin(self, who: Who, when: Optional[str] = None) -> list[int]:
        """Start a new process in the seat of one that is gone."""
        return self.do("rejoin", _what(who, None, when))

    def add(self, who: Who = "vacant", when: Optional[str] = None) -> list[int]:
        """Start a process in a free seat."""
        return self.do("add", _what(who, None, when))

    def drain(self, who: Who, when: Optional[str] = None) -> list[int]:
        """It hands its requests back and leaves."""
        return self.do("drain", _what(who, None, when))

    def burn(self, seconds: float, when: Optional[str] = None) -> None:
        """Burn one CPU at a joiner's priority."""
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
            raise ValueError(f"burn: {seconds!r} is no number of seconds above 0")
        self.do("burn", _what(None, f"{seconds:g}", when))

    def store_kill(self, when: Optional[str] = None) -> None:
        """SIGKILL the store."""
        self.do("store-kill", _what(None, None, when))

    def store_stop(self, duration: Optional[str] = None, when: Optional[str] = None, *,
                   seconds: Optional[float] = None) -> None:
        """SIGSTOP the store; SIGCONT after `duration` or `seconds`, if one is given."""
        self.do("store-stop", _what(None, _duration("store-stop", duration, seconds), when))

    def store_cont(self, when: Optional[str] = None) -> None:
        """SIGCONT the store."""
        self.do("store-cont", _what(None, None, when))

    def store_start(self, when: Optional[str] = None) -> None:
        """Start the store again, empty."""
        self.do("store-start", _what(None, None, when))

    # ------------------------------------------------------------ questions

    def status(self) -> dict[str, Any]:
        """The instance now (docs/CONTROL.md): time_ms, epoch, tokens_per_s, seats, requests, ..."""
        return self._ask(do="status")

    def seat(self, seat: int) -> dict[str, Any]:
        """The seat's part of `status`."""
        seats = self.status()["seats"]
        if isinstance(seat, bool) or not isinstance(seat, int) or not 0 <= seat < len(seats):
            raise ValueError(f"seat: {seat!r} is none of the seats 0 to {len(seats) - 1}")
        return seats[seat]

    def pending(self) -> list[dict[str, Any]]:
        """What is not done yet: dictionaries with number, what, and what it waits for."""
        return self._ask(do="pending")["pending"]

    def cancel(self, number: int) -> None:
        """Withdraw what has that number in `pending`."""
        self._ask(do="cancel", what=str(number))

    def events(self) -> EventStream:
        """Events from now on."""
        return EventStream(self._path())

    def wait(self, goal: str = "settled", timeout: float = 60) -> None:
        """Until the run is "settled" or "done"; WaitTimeout (a TimeoutError and a Refused) if it is
        not within `timeout` seconds."""
        request = {"do": "wait", "for": goal, "timeout_s": timeout}
        self._ask(timeout + 10, **request)

    def until(self, holds: Callable[[dict[str, Any]], bool], timeout: float = 60) -> dict[str, Any]:
        """The first status for which `holds` is true, asked for every 20 ms; or EepError."""
        deadline = time.monotonic() + timeout
        while True:
            status = self.status()
            if holds(status):
                return status
            if time.monotonic() > deadline:
                raise EepError(f"not as wanted within {timeout:g} s: {status}")
            time.sleep(0.02)

    # ------------------------------------------------------------ the end

    def finish(self, timeout: float = 120) -> dict[str, Any]:
        """No new requests: serve what has arrived, check every token, and return the summary."""
        if self.process.poll() is None:
            try:
                self._ask(do="finish")
            except EepError:
                pass  # it ends already: its summary says how
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise EepError(f"the run did not end within {timeout:g} s:\n{self.log()}") from None
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """summary.json of a run that has ended (docs/SUMMARY.md)."""
        if self._summary is None:
            try:
                self._summary = json.loads((self.out / "summary.json").read_text())
            except (OSError, ValueError) as error:
                raise EepError(f"no summary: {error}\n{self.log()}") from None
        return self._summary

    def close(self) -> None:
        """End the run now if it still lives (its requests are cut off), and clean up."""
        if self._connection:
            self._connection.close()
            self._connection = None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()
        if self._temporary:
            self._temporary.cleanup()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: Optional[type[BaseException]], *_: object) -> None:
        try:
            if kind is None and self._summary is None:
                self.finish()
        finally:
            self.close()


# ---------------------------------------------------------------- series


def pauses_ms(summary: Mapping[str, Any]) -> list[float]:
    """The pauses of a run's faults that have one."""
    return [fault["pause_ms"] for fault in summary["faults"] if fault["pause_ms"] is not None]


def _measure(summary: Mapping[str, Any]) -> dict[str, Any]:
    pauses = pauses_ms(summary)
    return {"good": summary["good"], "faults": len(summary["faults"]),
            "pause_ms": max(pauses, default=None), "step_p50_ms": summary["step_ms"]["p50"],
            "step_p99_ms": summary["step_ms"]["p99"], "tokens": summary["tokens_emitted"],
            "commit": summary["commit"]}


class _Rows:
    """The rows of a sweep, in memory and, as they come, in a CSV file."""

    def __init__(self, folder: Optional[pathlib.Path], resume: bool) -> None:
        self.rows: list[dict[str, Any]] = []
        self.kept: dict[tuple[str, ...], dict[str, Any]] = {}
        self._file = folder / "rows.csv" if folder else None
        self._lock = threading.Lock()
        if not folder:
            return
        if folder.exists() and any(folder.iterdir()) and not resume:
            raise EepError(f"'{folder}' holds results already: give another out=, or resume=True to "
                           "keep its good rows and make the others")
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, names: Sequence[str]) -> None:
        """What an earlier sweep into the folder, of the same parameters, has finished."""
        if self._file and self._file.exists():
            with open(self._file, newline="") as file:
                reader = csv.DictReader(file)
                missing = {*names, "run"}.difference(reader.fieldnames or [])
                if missing:
                    raise EepError(f"'{self._file}' is of another sweep: it has no column "
                                   f"'{sorted(missing)[0]}'; give another out=")
                for row in reader:
                    if row.get("error") == "":
                        kept = {name: _value(text) for name, text in row.items()}
                        kept["error"] = ""
                        self.kept[tuple(row[name] for name in names)] = kept
            self.rows = list(self.kept.values())  # whatever is cut off next, these stay

    def add(self, row: dict[str, Any]) -> None:
        with self._lock:
            self.rows.append(row)
            self.rows.sort(key=lambda one: one["run"])
            if not self._file:
                return
            columns = list(dict.fromkeys(name for one in self.rows for name in one))
            new = self._file.with_suffix(".new")
            with open(new, "w", newline="") as file:
                writer = csv.DictWriter(file, columns, restval="")
                writer.writeheader()
                writer.writerows(self.rows)
            os.replace(new, self._file)  # a sweep that is cut off leaves whole rows


def _value(text: str) -> Any:
    """A cell of a CSV file as what it was."""
    for known, value in (("True", True), ("False", False), ("", None)):
        if text == known:
            return value
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _points(parameter: Union[str, Mapping[str, Iterable[Any]]],
            values: Optional[Iterable[Any]]) -> list[dict[str, Any]]:
    if isinstance(parameter, str):
        if values is None:
            raise EepError(f"sweep: no values for '{parameter}' are given")
        return [{parameter: value} for value in values]
    if values is not None:
        raise EepError("sweep: with a grid of parameters their values stand in it")
    grid = {name: list(some) for name, some in parameter.items()}
    return [dict(zip(grid, chosen)) for chosen in itertools.product(*grid.values())]


def _tell(progress: Union[bool, Callable[[dict[str, Any]], None], None], row: dict[str, Any],
          done: int, total: int, names: Sequence[str]) -> None:
    if callable(progress):
        progress(row)
    elif progress or (progress is None and sys.stderr.isatty()):
        at = " ".join(f"{name}={row[name]}" for name in names)
        first_line = str(row["error"]).split("\n", maxsplit=1)[0]
        how = f"failed: {first_line}" if row["error"] else "done"
        print(f"{done}/{total} {at} repeat={row['repeat']}: {how}", file=sys.stderr, flush=True)


def sweep(parameter: Union[str, Mapping[str, Iterable[Any]]],
          values: Optional[Iterable[Any]] = None, *,
          drive: Optional[Callable[[Run, Any], None]] = None,
          is_option: bool = True, repeats: int = 1,
          measure: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _measure,
          out: Union[str, os.PathLike[str], None] = None, resume: bool = False, jobs: int = 1,
          progress: Union[bool, Callable[[dict[str, Any]], None], None] = None,
          seed: int = 1, **options: Any) -> list[dict[str, Any]]:
    """A run for each value, `repeats` times over; a row for each run.

    parameter: an option of eep-run that takes the values in turn; or a grid {option: values, ...},
    of which every combination is run. With is_option=False they are only names in the rows.
    drive(run, value): what is done while it serves; with a grid `value` is a dictionary.
    measure(summary): the columns behind the parameters, run, repeat, seed and error; by default
    good, faults, pause_ms (the longest), step_p50_ms, step_p99_ms, tokens and commit. Values are
    interleaved (all values, then all again), so that a machine that slows down favours none.

    seed: of the first repeat; the others have the next ones. All values of a repeat have one seed.
    A run that fails, or whose drive raises, is a row with its `error` and without the measured
    columns; the others go on. out: a folder for rows.csv, rewritten with each row, and the results
    of each run in run-NNNN; one that is not empty is refused, unless resume=True: then runs whose
    row is there without an error are not made again. jobs: so many runs at once (they share the
    processors: for counts, not for times). progress: True for a line on standard error after each
    run, False for none, a function that is called with each row; by default, lines on a terminal.
    """
    points = _points(parameter, values)
    names = list(points[0]) if points else []
    folder = pathlib.Path(os.fspath(out)) if out is not None else None
    found = _Rows(folder, resume)
    found.read((*names, "repeat", "seed"))
    used = {row["run"] for row in found.rows}
    free = (number for number in itertools.count() if number not in used)
    todo = [(repeat, point) for repeat in range(repeats) for point in points]
    made: list[dict[str, Any]] = []
    for repeat, point in todo:
        seeded = {"seed": seed + repeat, **(point if is_option else {})}
        row = {**point, "repeat": repeat, "seed": seeded["seed"]}
        kept = found.kept.get(tuple(str(row[name]) for name in (*names, "repeat", "seed")))
        made.append(kept if kept else {**point, "run": next(free), **row, "error": ""})
        made[-1].update(row)  # what a file holds as text is what was asked for

    def one(row: dict[str, Any], point: dict[str, Any]) -> None:
        if not any(row is kept for kept in found.kept.values()):
            seeded = {"seed": row["seed"], **(point if is_option else {})}
            given = {**options, **seeded}
            if folder:
                given.update(out=folder / f"run-{row['run']:04d}", force=True)
            try:
                with Run(**given) as run:
                    if drive:
                        drive(run, point if not isinstance(parameter, str) else point[parameter])
                    row.update(measure(run.finish()))
            except Exception as error:  # pylint: disable=broad-except; it is the row's
                row["error"] = f"{type(error).__name__}: {error}"
            found.add(row)
        done = next(counted)
        _tell(progress, row, done, len(todo), names)

    counted = itertools.count(1)
    tasks = [(row, point) for row, (_, point) in zip(made, todo)]
    if jobs == 1:
        for task in tasks:
            one(*task)
    else:
        with concurrent.futures.ThreadPoolExecutor(jobs) as workers:
            for running in [workers.submit(one, *task) for task in tasks]:
                running.result()
    return made
