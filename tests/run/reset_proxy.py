#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Carry TCP connections from one port of 127.0.0.1 to another, their resets too, and reset all of them on SIGUSR1.

    reset_proxy.py PORT TO_PORT      SIGUSR1: reset; SIGUSR2: reset, and refuse new ones for 1 s
"""
import selectors
import signal
import socket
import struct
import sys
import time

PORT, TO_PORT = int(sys.argv[1]), int(sys.argv[2])
asked = []


def listen():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", PORT))
    listener.listen()
    return listener


def reset(one):
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


def carry(listener):
    """Until a signal comes."""
    peer = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while not asked:
            for key, _ in selector.select(0.02):
                if key.fileobj is listener:
                    here, there = listener.accept()[0], socket.socket()
                    there.connect(("127.0.0.1", TO_PORT))
                    for one, other in ((here, there), (there, here)):
                        peer[one] = other
                        selector.register(one, selectors.EVENT_READ)
                elif key.fileobj in peer:
                    one, was_reset = key.fileobj, False
                    try:
                        data = one.recv(1 << 16)
                        peer[one].sendall(data)
                    except (ConnectionResetError, BrokenPipeError):
                        data, was_reset = b"", True
                    if data:
                        continue
                    other = peer.pop(one)
                    del peer[other]
                    for end in (one, other):
                        selector.unregister(end)
                        if was_reset:
                            reset(end)
                        else:
                            end.close()
    for one in peer:
        reset(one)


for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda got, _: asked.append(got))
while True:
    with listen() as door:
        carry(door)
    if asked.pop() == signal.SIGUSR2:
        time.sleep(1)
