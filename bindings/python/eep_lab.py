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

import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional, Sequence, Union

__all__ = ["EepError", "Refused", "EventStream", "Run", "find_eep_run", "pauses_ms", "sweep"]

Who = Union[int, str, Sequence[int]]
"""A rank, several, or a text such as "random:2", "lowest", "3@ready:5" (eep-ctl --help)."""


class EepError(RuntimeError):
    """eep-run did not start, hung up, or did not answer in time."""


class Refused(EepError):
    """The run refused a command; the text says why."""


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


def _what(who: Optional[Who], value: Optional[str] = None, when: Optional[str] = None) -> str:
    """WHO[=VALUE][@WHEN] of the grammar."""
    if who is None:
        text = value or ""
    else:
        text = str(who) if isinstance(who, (int, str)) else ",".join(map(str, who))
        text += f"={value}" if value else ""
    return text + (f"@{when}" if when else "")


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
            if os.geteuid() not in (0, user) and user != 0:
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
                break  # others answer what was asked and given up before
        if answer is None:
            raise EepError("the run has ended")
        if not answer.get("ok"):
            raise Refused(answer.get("error", "refused"))
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

    def stop(self, who: Who, duration: Optional[str] = None,
             when: Optional[str] = None) -> list[int]:
        """SIGSTOP; SIGCONT after `duration` ("400ms", "1.5"), if one is given."""
        return self.do("stop", _what(who, duration, when))

    def cont(self, who: Who, when: Optional[str] = None) -> list[int]:
        """SIGCONT."""
        return self.do("cont", _what(who, None, when))

    def slow(self, who: Who, factor: float, duration: Optional[str] = None,
             when: Optional[str] = None) -> list[int]:
        """Steps take `factor` times as long, for `duration` or for good; 1 ends that."""
        value = f"{factor:g}" + (f"/{duration}" if duration else "")
        return self.do("slow", _what(who, value, when))

    def die(self, who: Who, place: str, when: Optional[str] = None) -> list[int]:
        """It kills itself inside its next step: at "dispatch", "experts" or "combine"."""
        return self.do("die", _what(who, place, when))

    def freeze(self, who: Who, place: str, duration: Optional[str] = None,
               when: Optional[str] = None) -> list[int]:
        """It stops itself inside its next step, there; SIGCONT after `duration`, if given."""
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
        self.do("burn", _what(None, f"{seconds:g}", when))

    def store_kill(self, when: Optional[str] = None) -> None:
        """SIGKILL the store."""
        self.do("store-kill", _what(None, None, when))

    def store_stop(self, duration: Optional[str] = None, when: Optional[str] = None) -> None:
        """SIGSTOP the store; SIGCONT after `duration`, if one is given."""
        self.do("store-stop", _what(None, duration, when))

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
        return self.status()["seats"][seat]

    def events(self) -> EventStream:
        """Events from now on."""
        return EventStream(self._path())

    def wait(self, goal: str = "settled", timeout: float = 60) -> None:
        """Until the run is "settled" or "done"; Refused if it is not within `timeout` seconds."""
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


def sweep(parameter: str, values: Iterable[Any], *,
          drive: Optional[Callable[[Run, Any], None]] = None,
          is_option: bool = True, repeats: int = 1,
          measure: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _measure,
          **options: Any) -> list[dict[str, Any]]:
    """A run for each value, `repeats` times over, one after the other; a row for each run.

    parameter: an option of eep-run that takes the values in turn; with is_option=False only their
    name in the rows. drive(run, value): what is done while it serves. measure(summary): the columns
    behind `parameter` and `repeat`; by default good, faults, pause_ms (the longest), step_p50_ms,
    step_p99_ms, tokens and commit. Values are interleaved (all values, then all again), so that a
    machine that slows down favours none of them.
    """
    rows = []
    values = list(values)
    for repeat in range(repeats):
        for value in values:
            given = {**options, parameter: value} if is_option else options
            with Run(**given) as run:
                if drive:
                    drive(run, value)
                summary = run.finish()
            rows.append({parameter: value, "repeat": repeat, **measure(summary)})
    return rows
