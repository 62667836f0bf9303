# SPDX-License-Identifier: Apache-2.0
"""One run of eep-run, from its start to its summary."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from typing import Any, Callable, Mapping, Optional, Union

from .connection import Connection, EepError, EventStream, Refused
from .words import Who, duration_text, event_text, option_words


def find_eep_run() -> str:
    """The eep-run program: $EEP_RUN, the build folder beside this file's tree, or $PATH."""
    given = os.environ.get("EEP_RUN")
    if given:
        return given
    built = pathlib.Path(__file__).resolve().parents[3] / "build" / "experiments" / "eep-run"
    found = str(built) if os.access(built, os.X_OK) else shutil.which("eep-run")
    if not found:
        raise EepError("no eep-run: build it, or name it in the environment variable EEP_RUN")
    return found


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
        self._connection: Optional[Connection] = None
        self.command = [program or find_eep_run(), "--quiet", f"--out={self.out}",
                        *option_words({"serve": True, "no_picture": out is None, **options})]
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
                self._connection = Connection(self._path(), self.process.pid)
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
                self._connection = Connection(self._path(), self.process.pid)
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
        return self.do("kill", event_text(who, None, when))

    def abort(self, who: Who, when: Optional[str] = None) -> list[int]:
        """SIGABRT, as after a failed assertion."""
        return self.do("abort", event_text(who, None, when))

    def stop(self, who: Who, duration: Optional[str] = None, when: Optional[str] = None, *,
             seconds: Optional[float] = None) -> list[int]:
        """SIGSTOP; SIGCONT after `duration` ("400ms", "1.5s") or `seconds`, if one is given."""
        return self.do("stop", event_text(who, duration_text("stop", duration, seconds), when))

    def cont(self, who: Who, when: Optional[str] = None) -> list[int]:
        """SIGCONT."""
        return self.do("cont", event_text(who, None, when))

    def slow(self, who: Who, factor: float, duration: Optional[str] = None,
             when: Optional[str] = None, *, seconds: Optional[float] = None) -> list[int]:
        """Steps take `factor` times as long, for `duration` or `seconds` or for good; 1 ends that.
        """
        duration = duration_text("slow", duration, seconds)
        value = f"{factor:g}" + (f"/{duration}" if duration else "")
        return self.do("slow", event_text(who, value, when))

    def die(self, who: Who, place: str, when: Optional[str] = None) -> list[int]:
        """It kills itself inside its next step: at "dispatch", "experts" or "combine"."""
        return self.do("die", event_text(who, place, when))

    def freeze(self, who: Who, place: str, duration: Optional[str] = None,
               when: Optional[str] = None, *, seconds: Optional[float] = None) -> list[int]:
        """It stops itself inside its next step, there; SIGCONT after `duration` or `seconds`, if
        one is given."""
        duration = duration_text("freeze", duration, seconds)
        value = place + (f"/{duration}" if duration else "")
        return self.do("freeze", event_text(who, value, when))

    def rejoin(self, who: Who, when: Optional[str] = None) -> list[int]:
        """Start a new process in the seat of one that is gone."""
        return self.do("rejoin", event_text(who, None, when))

    def add(self, who: Who = "vacant", when: Optional[str] = None) -> list[int]:
        """Start a process in a free seat."""
        return self.do("add", event_text(who, None, when))

    def drain(self, who: Who, when: Optional[str] = None) -> list[int]:
        """It hands its requests back and leaves."""
        return self.do("drain", event_text(who, None, when))

    def placement(self, file: Union[str, os.PathLike[str]], who: Who = "lowest",
                  when: Optional[str] = None) -> list[int]:
        """It orders the placement of that JSON file (docs/SCENARIOS.md), behind live traffic."""
        return self.do("placement", event_text(who, os.path.abspath(file), when))

    def burn(self, seconds: float, when: Optional[str] = None) -> None:
        """Burn one CPU at a joiner's priority."""
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
            raise ValueError(f"burn: {seconds!r} is no number of seconds above 0")
        self.do("burn", event_text(None, f"{seconds:g}", when))

    def store_kill(self, when: Optional[str] = None) -> None:
        """SIGKILL the store."""
        self.do("store-kill", event_text(None, None, when))

    def store_stop(self, duration: Optional[str] = None, when: Optional[str] = None, *,
                   seconds: Optional[float] = None) -> None:
        """SIGSTOP the store; SIGCONT after `duration` or `seconds`, if one is given."""
        duration = duration_text("store-stop", duration, seconds)
        self.do("store-stop", event_text(None, duration, when))

    def store_cont(self, when: Optional[str] = None) -> None:
        """SIGCONT the store."""
        self.do("store-cont", event_text(None, None, when))

    def store_start(self, when: Optional[str] = None) -> None:
        """Start the store again, empty."""
        self.do("store-start", event_text(None, None, when))

    # ------------------------------------------------------------ hosts and their network (--hosts)

    def _at_hosts(self, verb: str, what: str, duration: Optional[str], when: Optional[str],
                  seconds: Optional[float] = None) -> list[int]:
        duration = duration_text(verb, duration, seconds)
        return self.do(verb, event_text(None, what + (f"/{duration}" if duration else ""), when))

    def host_kill(self, host: str, when: Optional[str] = None) -> list[int]:
        """SIGKILL all ranks and the agent of a host, or what the file of hosts says."""
        return self._at_hosts("host-kill", host, None, when)

    def host_start(self, host: str, when: Optional[str] = None) -> list[int]:
        """Bring the host back: its worker and its agent, without ranks."""
        return self._at_hosts("host-start", host, None, when)

    def host_freeze(self, host: str, duration: Optional[str] = None, when: Optional[str] = None, *,
                    seconds: Optional[float] = None) -> list[int]:
        """SIGSTOP all ranks and the agent of a host; SIGCONT after `duration` or `seconds`, if one
        is given."""
        return self._at_hosts("host-freeze", host, duration, when, seconds)

    def host_cont(self, host: str, when: Optional[str] = None) -> list[int]:
        """SIGCONT them."""
        return self._at_hosts("host-cont", host, None, when)

    def agent_kill(self, host: str, duration: Optional[str] = None, when: Optional[str] = None, *,
                   seconds: Optional[float] = None) -> list[int]:
        """SIGKILL the agent of a host; it starts again after `duration` or `seconds`, if one is
        given."""
        return self._at_hosts("agent-kill", host, duration, when, seconds)

    def agent_start(self, host: str, when: Optional[str] = None) -> list[int]:
        """Start it again."""
        return self._at_hosts("agent-start", host, None, when)

    def partition(self, sides: str, duration: Optional[str] = None, when: Optional[str] = None, *,
                  seconds: Optional[float] = None) -> list[int]:
        """Nothing gets from one of both sides to the other ("h1|h2,h3"), for `duration` or
        `seconds` or until `heal`."""
        return self._at_hosts("partition", sides, duration, when, seconds)

    def one_way(self, sides: str, duration: Optional[str] = None, when: Optional[str] = None, *,
                seconds: Optional[float] = None) -> list[int]:
        """Nothing gets from the first side to the second."""
        return self._at_hosts("one-way", sides, duration, when, seconds)

    def delay(self, sides: str, ms: int, duration: Optional[str] = None,
              when: Optional[str] = None, *, seconds: Optional[float] = None) -> list[int]:
        """What both sides send to each other takes `ms` milliseconds longer."""
        return self._at_hosts("delay", f"{sides}:{ms}", duration, when, seconds)

    def reset(self, sides: str, duration: Optional[str] = None, when: Optional[str] = None, *,
              seconds: Optional[float] = None) -> list[int]:
        """Connections between both sides are reset and refused."""
        return self._at_hosts("reset", sides, duration, when, seconds)

    def heal(self, when: Optional[str] = None) -> list[int]:
        """Partition, one-way, delay and reset are over, everywhere."""
        return self._at_hosts("heal", "", None, when)

    def nic_down(self, host: str, duration: Optional[str] = None, when: Optional[str] = None, *,
                 seconds: Optional[float] = None) -> list[int]:
        """A host's interface goes down."""
        return self._at_hosts("nic-down", host, duration, when, seconds)

    def nic_up(self, host: str, when: Optional[str] = None) -> list[int]:
        """It is up again."""
        return self._at_hosts("nic-up", host, None, when)

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
