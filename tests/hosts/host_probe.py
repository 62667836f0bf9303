#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Run inside a host of tools/netlab: what it sees of others. One line of JSON on standard output.

    host_probe.py serve                  answer UDP and TCP on port 7001 with what comes; until killed
    host_probe.py ask ADDRESS N SECONDS  N datagrams: {"times_ms": [...]} of those that came back within SECONDS
    host_probe.py sink                   hold datagrams for port 7002; a line N on standard input, when all are
                                         sent: count until N have come and no more do: {"received": N}
    host_probe.py send ADDRESS N         N datagrams to port 7002
    host_probe.py stream ADDRESS BYTES   how fast TCP carries so many bytes: {"mbit": X}
    host_probe.py hold ADDRESS           a TCP connection: lines on standard input are sent over it; each says
                                         for how many seconds to wait for the answer
    host_probe.py clocks                 {"monotonic": S, "boottime": S, "realtime": S}
    host_probe.py leave MARK             files, memory, sockets and a process with that mark; until killed
    host_probe.py find MARK              {"found": [what is seen of that mark]}
"""
import contextlib
import ctypes
import glob
import json
import os
import select
import socket
import sys
import time

PORT, SINK_PORT = 7001, 7002
BOUND_S = 60  # of waits for what must come
SO_RCVBUFFORCE = 33
PLACES = ("/tmp", "/run", "/dev/shm", os.environ.get("EEP_STATE_DIR", "/tmp"))


def say(**values):
    print(json.dumps(values), flush=True)


def serve():
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("0.0.0.0", PORT))
    listener = socket.create_server(("0.0.0.0", PORT), backlog=16)
    streams = []
    say(ready=True)
    while True:
        for ready in select.select([datagrams, listener, *streams], [], [])[0]:
            if ready is datagrams:
                data, sender = datagrams.recvfrom(65536)
                with contextlib.suppress(OSError):
                    datagrams.sendto(data, sender)
            elif ready is listener:
                streams.append(listener.accept()[0])
            else:
                try:
                    data = ready.recv(1 << 18)
                except OSError:
                    data = b""
                if not data:
                    streams.remove(ready)
                    ready.close()
                elif data[-1:] == b"\n":  # the end of a stream, or a line
                    with contextlib.suppress(OSError):
                        ready.sendall(b"ok\n")


def ask(address, number, seconds):
    own, times = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), []
    with contextlib.suppress(OSError):  # no way there: nothing comes back
        own.connect((address, PORT))
    for turn in range(int(number)):
        begin = time.monotonic()
        with contextlib.suppress(OSError):
            own.send(b"%d" % turn)
            while True:
                left = begin + float(seconds) - time.monotonic()
                if left <= 0 or not select.select([own], [], [], left)[0]:
                    break
                if own.recv(100) == b"%d" % turn:
                    times.append((time.monotonic() - begin) * 1e3)
                    break
    say(times_ms=times)


def sink():
    own, received = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0
    own.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
    own.bind(("0.0.0.0", SINK_PORT))
    say(ready=True)
    wanted = int(sys.stdin.readline())
    while select.select([own], [], [], BOUND_S if received < wanted else 0.3)[0]:
        received += own.recv(100) is not None
    say(received=received)


def send(address, number):
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(int(number)):
        own.sendto(b"x", (address, SINK_PORT))
        time.sleep(0.0005)
    say(sent=int(number))


def stream(address, size):
    left, piece, begin = int(size), b"x" * 65536, time.monotonic()
    with socket.create_connection((address, PORT), timeout=BOUND_S) as own:
        while left > 0:
            left -= own.send(piece[:left])
        own.sendall(b"\n")
        own.recv(10)
    say(mbit=int(size) * 8e-6 / (time.monotonic() - begin))


def hold(address):
    """Each line is sent, and answered in time, or the connection's end is said."""
    try:
        own = socket.create_connection((address, PORT), timeout=BOUND_S)
    except OSError as error:
        say(error=type(error).__name__)
        return
    say(ready=True)
    for line in sys.stdin:
        own.settimeout(float(line))
        try:
            own.sendall(line.encode())
            say(answer=own.recv(100).decode().strip())
        except OSError as error:
            say(error=type(error).__name__)


def clocks():
    say(monotonic=time.monotonic(), boottime=time.clock_gettime(time.CLOCK_BOOTTIME), realtime=time.time())


def key_of(mark):
    return sum(mark.encode()) + 0x7E000000


def leave(mark):
    libc, files = ctypes.CDLL(None, use_errno=True), []
    for place in PLACES:
        files.append(open(f"{place}/{mark}", "w"))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0{mark}")
    abstract.listen()
    if libc.shmget(key_of(mark), 4096, 0o1600) < 0:  # 01000: IPC_CREAT
        sys.exit("no System V memory")
    say(ready=True, pid=os.getpid())
    time.sleep(1000)


def find(mark):
    found = [f"{place}/{mark}" for place in PLACES if os.path.exists(f"{place}/{mark}")]
    with contextlib.suppress(OSError):
        socket.socket(socket.AF_UNIX).connect(f"\0{mark}")
        found.append("abstract socket")
    if ctypes.CDLL(None).shmget(key_of(mark), 0, 0) >= 0:
        found.append("System V memory")
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if b"leave\0" + mark.encode() in file.read():
                found.append("process")
    say(found=found)


if __name__ == "__main__":
    {"serve": serve, "ask": ask, "sink": sink, "send": send, "stream": stream, "hold": hold,
     "clocks": clocks, "leave": leave, "find": find}[sys.argv[1]](*sys.argv[2:])
