# SPDX-License-Identifier: Apache-2.0
"""The control socket of a run (docs/CONTROL.md), and what may be wrong with it."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from typing import Any, Iterator, Mapping, Optional


class EepError(RuntimeError):
    """eep-run did not start, hung up, or did not answer in time."""


class Refused(EepError):
    """The run refused a command; the text says why."""


class WaitTimeout(Refused, TimeoutError):
    """What `Run.wait` waits for is not so within its time; the text says what holds it up."""


def _is_anybody(user: int) -> bool:
    """Whether the kernel shows this number for all users whom our user namespace does not map."""
    try:
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
            overflow = int(file.read())
    except (OSError, ValueError):
        overflow = 65534
    if user != overflow:
        return False
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return sum(int(line.split()[2]) for line in file) < 0xFFFFFFFF
    except (OSError, ValueError, IndexError):
        return True


class Connection:
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
            if user not in (0, os.geteuid()) or _is_anybody(user):
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
        self._connection = Connection(path)
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
