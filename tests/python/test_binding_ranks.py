#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Ranks in Python, each a process of examples/front.py: one is killed and comes back; one is stopped
for too long, and is told so. Every result of every step is checked by the ranks themselves.

    PYTHONPATH=TREE tests/python/test_binding_ranks.py
"""
import os
import re
import signal
import subprocess
import sys
import threading
import time
import unittest

sys.dont_write_bytecode = True
import eep

EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
                        "examples")
# A rank of the example that its peers may not kill.
UNFENCED = ("import asyncio, functools, sys; sys.path.insert(0, sys.argv[1]); import eep, front; "
            "eep.Context = functools.partial(eep.Context, kill_fence=False); "
            "asyncio.run(front.serve(int(sys.argv[2]), sys.argv[3]))")
LIMIT_S = 60


class Process:
    def __init__(self, command):
        self.lines, self.errors = [], []
        self.it = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        self.threads = [threading.Thread(target=self.listen, args=parts) for parts in
                        ((self.it.stdout, self.lines), (self.it.stderr, self.errors))]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def listen(pipe, lines):
        for line in pipe:
            lines.append(line.rstrip("\n"))

    def until(self, test, pattern):
        limit = time.monotonic() + LIMIT_S
        while not any(re.search(pattern, line) for line in self.lines):
            test.assertLess(time.monotonic(), limit, f"no line '{pattern}': {self.lines} {self.errors[-5:]}")
            time.sleep(0.005)

    def end(self):
        if self.it.poll() is None:
            self.it.kill()
        self.it.wait()
        self.it.stdin.close()
        for thread in self.threads:
            thread.join()
        self.it.stdout.close()
        self.it.stderr.close()


class Ranks(unittest.TestCase):
    def test_a_killed_rank_comes_back(self):
        done = subprocess.run([sys.executable, os.path.join(EXAMPLES, "front.py")], timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for line in (r"front: epoch \d+, 3 ranks serve: \[1, 1, 1\]",
                     r"front: epoch \d+, 2 ranks serve: \[1, None, 1\]",
                     r"rank 2 generation 1: 20 steps right with 2 ranks",
                     r"front: epoch \d+, 3 ranks serve: \[1, 2, 1\]",
                     r"rank 1 generation 2: Drained, \d+ steps right",
                     r"front: all ranks have ended: \[0, 0, 0\]"):
            self.assertRegex(done.stdout, line)
        self.assertIn("left: rank 1 (generation 1: process ended)", done.stderr)

    def test_a_rank_that_was_stopped_for_too_long_is_told(self):
        with eep.Store() as store:
            ranks = [Process([sys.executable, "-c", UNFENCED, EXAMPLES, str(number), store.path])
                     for number in range(3)]
            for rank in ranks:
                self.addCleanup(rank.end)
            for number, rank in enumerate(ranks):
                rank.until(self, f"rank {number} generation 1: 20 steps right with 3 ranks")
            ranks[2].it.send_signal(signal.SIGSTOP)
            for number in (0, 1):
                ranks[number].until(self, f"rank {number} generation 1: 20 steps right with 2 ranks")
            ranks[2].it.send_signal(signal.SIGCONT)
            ranks[2].until(self, r"rank 2 generation 1: Evicted, \d+ steps right")
            self.assertEqual(ranks[2].it.wait(LIMIT_S), 0)
            ranks[0].it.stdin.close()
            for number in (0, 1):
                ranks[number].until(self, f"rank {number} generation 1: Drained")
                self.assertEqual(ranks[number].it.wait(LIMIT_S), 0)


if __name__ == "__main__":
    unittest.main()
