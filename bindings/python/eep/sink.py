# SPDX-License-Identifier: Apache-2.0
"""The token sink (eep/sink.h): where a token becomes emitted, once and by its owner alone."""
from .errors import check
from .loading import lib
from .objects import Closing


class Sink(Closing):
    """For requests 0 .. max_requests - 1. One thread owns it."""

    _closer = "py_sink_close"

    def __init__(self, max_requests: int) -> None:
        super().__init__()
        check(lib.py_sink_open(max_requests, self._handle), "eep_sink_open")
        self._opened()

    def assign(self, request: int, seat: int, generation: int) -> None:
        """Let that process emit the request's next positions, before it gets the request."""
        check(lib.py_sink_assign(self._handle, request, seat, generation), "eep_sink_assign")

    def revoke(self, request: int) -> None:
        """Nobody may emit for the request."""
        check(lib.py_sink_revoke(self._handle, request), "eep_sink_revoke")

    def release(self, request: int) -> None:
        """This use of the number is over; the next one begins at position 0."""
        check(lib.py_sink_release(self._handle, request), "eep_sink_release")

    def incarnation(self, request: int) -> int:
        """How often the number was released; it travels with the request and with its tokens."""
        return int(lib.py_sink_incarnation(self._handle, request))

    def offer(self, request: int, incarnation: int, seat: int, generation: int,
              position: int) -> None:
        """The token may be shown to the client, unless NotOwner, Duplicate or Ahead is raised: then
        it is dropped and counted."""
        check(lib.py_sink_offer(self._handle, request, incarnation, seat, generation, position),
              "eep_sink_offer")

    def next_position(self, request: int) -> int:
        return int(lib.py_sink_next_position(self._handle, request))

    @property
    def refused(self) -> int:
        """Tokens that were dropped so far."""
        return int(lib.py_sink_refused(self._handle))
