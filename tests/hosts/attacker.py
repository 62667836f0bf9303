#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Run inside a host of tools/netlab that has no key: attacks on a port of another host.

    attacker.py storm ADDRESS PORT           everything that needs no key, again and again until a line comes on
                                             standard input. {"ready": true}, then {"tried": {...}, "said": N}
                                             where N counts answers other than a hello's and a refusal's
    attacker.py relay ADDRESS PORT TO PORT   carry connections to TO; from the first line of standard input on,
                                             change, repeat, leave out, exchange and enlarge messages, one each of
                                             24 connections. At the end of the input: whole conversations are
                                             replayed to TO. {"ready": true}, {"hurt": 24}, and counts at the end
    attacker.py knock ADDRESS PORT...        {"open": [ports that take a connection]}
"""
import collections
import json
import os
import select
import socket
import struct
import sys

HELLO_BYTES, PROOF_BYTES, HEAD_BYTES, CODE_BYTES = 256, 48, 16, 16
HELD, HURT = 150, 24
BOUND_S = 60  # of waits for an answer that must come
# The embedded store's frame for a put of the key "view", as if no key were needed.
FRAME = struct.pack("<IBBHIiQQQQ", 0x53504545, 1, 2, 5, 8, 0, 1, 0, 0, 0) + b"view\0\0\0\0" + b"attacked"
GARBAGE = (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-x\r\n",
           b"\xff" * 13, b"\0" * 4096, FRAME, b'{"do":"kill","what":"0"}\n')


def say(**values):
    print(json.dumps(values), flush=True)


def hello(service=b"store", instance=b"", versions=(1, 1)):
    """What begins a channel (transport/secure/secure_hello.h). Nobody without the key gets further."""
    text = struct.pack("<IIHHHHiiQQ", 0x43504545, 1, 1, 1, *versions, -1, -1, 0, 0)
    text += service.ljust(16, b"\0") + b"client".ljust(16, b"\0") + instance.ljust(64, b"\0") + bytes(56)
    return text + os.urandom(32) + bytes(32)


def connect(address, port, wait=2.0):
    own = socket.socket()
    own.settimeout(wait)
    try:
        own.connect((address, port))
    except OSError:
        own.close()
        return None
    return own


def exchange(own, *pieces):
    """Say the pieces; all that comes back until the other end hangs up or is silent for 3 s."""
    came = b""
    try:
        own.settimeout(3.0)
        for piece in pieces:
            own.sendall(piece)
        while piece := own.recv(65536):
            came += piece
    except OSError:
        pass
    own.close()
    return came


def is_refusal(came):
    """Nothing, an ANSWER, or a store's REPLY with id 0 that turns away."""
    if came[:8] == struct.pack("<II", 0x43504545, 2):
        return len(came) == HELLO_BYTES
    return not came or (came[:4] == b"EEPS" and came[5] == 16 and came[16:24] == bytes(8))


def storm(address, port):
    tried, said = collections.Counter(), 0
    held, slow = collections.deque(), collections.deque()
    random = os.urandom
    say(ready=True)
    while True:
        attacks = [("garbage", (piece,)) for piece in GARBAGE]
        attacks += [("no proof", (hello(), struct.pack("<II", 0x43504545, 3) + random(40))),
                    ("a proof at once", (hello() + struct.pack("<II", 0x43504545, 3) + random(40),)),
                    ("messages without a proof", (hello(), struct.pack("<IIQ", 32, 0x52504545, 0) + random(48))),
                    ("oversized", (hello()[:255], b"\xee" * (1 << 20))),
                    ("another version", (hello(versions=(9, 8)),)),
                    ("another service", (hello(service=b"rows"),)),
                    ("random", (random(300),))]
        for name, pieces in attacks:
            own = connect(address, port)
            if own:
                tried[name] += 1
                said += not is_refusal(exchange(own, *pieces))
        while len(held) < HELD and (own := connect(address, port, 0.2)):
            held.append(own)
            tried["held"] += 1
        for own in list(slow):
            try:
                own.sendall(b"E")
            except OSError:
                slow.remove(own)
        while len(slow) < 20 and (own := connect(address, port, 0.2)):
            slow.append(own)
            tried["slow"] += 1
        for _ in range(min(50, len(held))):
            held.popleft().close()
        if select.select([sys.stdin], [], [], 0)[0]:
            break
    say(tried=tried, said=said)


class Stream:
    """One direction of a connection: hellos as they are, then whole messages."""

    def __init__(self, to, hellos):
        self.to, self.hellos, self.bytes, self.kept = to, list(hellos), b"", b""

    def take(self, data, attack):
        self.bytes += data
        while self.hellos and len(self.bytes) >= self.hellos[0]:
            self.pass_on(self.cut(self.hellos.pop(0)))
        while not self.hellos and len(self.bytes) >= HEAD_BYTES:
            size = HEAD_BYTES + (struct.unpack("<I", self.bytes[:4])[0] + 15) // 16 * 16 + CODE_BYTES
            if len(self.bytes) < size:
                break
            for message in attack(self, self.cut(size)):
                self.pass_on(message)

    def cut(self, size):
        piece, self.bytes = self.bytes[:size], self.bytes[size:]
        return piece

    def pass_on(self, piece):
        if len(self.kept) < 1 << 16:
            self.kept += piece
        self.to.sendall(piece)


class Relay:
    KINDS = ("changed", "repeated", "left out", "exchanged", "enlarged", "code changed")

    def __init__(self, own, to):
        self.listener = socket.create_server(own, backlog=64)
        self.to, self.attacks, self.turn = to, False, 0
        self.ends, self.counts, self.ghosts, self.waiting = {}, collections.Counter(), [], {}
        self.hurt = set()

    def attack(self, stream, message):
        """Each connection once: the next one that comes is of another kind."""
        pair = frozenset((stream.to, self.ends[stream.to][0]))
        if not self.attacks or pair in self.hurt or len(self.hurt) >= HURT:
            return [message]
        kind = self.KINDS[self.turn % len(self.KINDS)]
        if kind == "exchanged" and stream not in self.waiting:
            self.waiting[stream] = message
            return []
        self.turn += 1
        self.hurt.add(pair)
        if len(self.hurt) == HURT:
            say(hurt=HURT)
        self.counts[kind] += 1
        middle = bytearray(message)
        if kind == "changed":
            middle[HEAD_BYTES] ^= 1
        elif kind == "code changed":
            middle[-1] ^= 1
        elif kind == "enlarged":
            middle[:4] = struct.pack("<I", 0x7fffffff)
        elif kind == "repeated":
            return [message, message]
        elif kind == "left out":
            return []  # the next message shows it
        elif kind == "exchanged":
            return [message, self.waiting.pop(stream)]
        return [bytes(middle)]

    def accept(self):
        client, _ = self.listener.accept()
        server = connect(*self.to)
        if not server:
            client.close()
            return
        for end in (client, server):
            end.settimeout(5.0)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ends[client] = (server, Stream(server, (HELLO_BYTES, PROOF_BYTES)))
        self.ends[server] = (client, Stream(client, (HELLO_BYTES,)))

    def close(self, end):
        other, stream = self.ends.pop(end)
        if other in self.ends:
            if stream.kept[:8] == struct.pack("<II", 0x43504545, 1) and len(self.ghosts) < 20:
                self.ghosts.append(stream.kept)  # what a client has said, word for word
            self.close(other)
        end.close()

    def replay_ghosts(self):
        """Old conversations, of generations that are over too, on connections of their own."""
        for kept in self.ghosts:
            if own := connect(*self.to):
                self.counts["conversations replayed"] += 1
                self.counts["answered"] += len(exchange(own, kept)) > HELLO_BYTES
        self.ghosts.clear()

    def run(self):
        say(ready=True)
        while True:
            ready = select.select([sys.stdin, self.listener, *self.ends], [], [], 0.2)[0]
            for end in ready:
                if end is sys.stdin and sys.stdin.readline():
                    self.attacks = True
                elif end is sys.stdin:
                    self.ghosts += [stream.kept for _, stream in self.ends.values()
                                    if stream.kept[:8] == struct.pack("<II", 0x43504545, 1)]
                    self.replay_ghosts()
                    say(**self.counts)
                    return
                elif end is self.listener:
                    self.accept()
                elif end in self.ends:
                    try:
                        data = end.recv(1 << 16)
                        if data:
                            self.ends[end][1].take(data, self.attack)
                        else:
                            self.close(end)
                    except OSError:
                        self.close(end)


def knock(address, *ports):
    found = []
    for port in map(int, ports):
        if own := connect(address, port, BOUND_S):
            found.append(port)
            own.close()
    say(open=found)


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "storm":
        storm(sys.argv[2], int(sys.argv[3]))
    elif len(sys.argv) == 6 and sys.argv[1] == "relay":
        Relay((sys.argv[2], int(sys.argv[3])), (sys.argv[4], int(sys.argv[5]))).run()
    elif len(sys.argv) > 3 and sys.argv[1] == "knock":
        knock(sys.argv[2], *sys.argv[3:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
