#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The way from a host of tools/netlab to the tool itself, which runs outside: a socket in a shared
folder. In a host:

    lab_door.py SOCKET WORDS...     netlab WORDS..., with its output and its status

A program that `run` has started goes on when the one that asked for it is gone.
"""
import json
import socket
import socketserver
import subprocess
import sys
import threading


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        words = json.loads(self.rfile.readline() or "[]")
        done = subprocess.run([*self.server.command, *words], capture_output=words[:1] != ["run"], text=True, check=False)
        answer = {"status": done.returncode, "text": (done.stdout or "") + (done.stderr or "")}
        try:
            self.wfile.write(json.dumps(answer).encode() + b"\n")
        except OSError:
            pass  # who asked is gone


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def open_door(path, command):
    """Serve at that socket; `command`: what stands before the words."""
    server = Server(path, Handler)
    server.command = command
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main():
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(sys.argv[1])
        door.sendall(json.dumps(sys.argv[2:]).encode() + b"\n")
        answer = json.loads(door.makefile().readline() or '{"status": 1, "text": "the door has closed\\n"}')
    sys.stderr.write(answer["text"])
    sys.exit(answer["status"] & 255)


if __name__ == "__main__":
    main()
