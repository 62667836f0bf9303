#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How programs with the Python package eep end: by an exception at each of its calls in turn, with
everything open, inside a step, beside threads that step or wait. No end is a crash, and no process
is left.

    PYTHONPATH=TREE tests/python/test_binding_ends.py [--all]     --all: every call, not a share
"""
import gc
import os
import signal
import sys
import threading
import time

import numpy as np

sys.dont_write_bytecode = True
import eep
from eep import objects

SHARE = 4  # without --all one of so many calls raises
AT_ONCE, LIMIT_S = 6, 30


class Injected(Exception):
    pass


class Raising:
    """In the place of eep's module of C: its call number `at` raises, before or behind the call."""

    def __init__(self, real):
        self.real, self.at, self.behind, self.calls = real, -1, False, 0
        self.owner = threading.get_ident()

    def __getattr__(self, name):
        found = getattr(self.real, name)
        if not callable(found) or not name.startswith(("py_", "eepy_", "eep_")):
            return found

        def call(*arguments):
            if threading.get_ident() != self.owner:
                return found(*arguments)
            self.calls += 1
            raises = self.calls == self.at
            if raises and not self.behind:
                raise Injected(f"before {name}")
            result = found(*arguments)
            if raises:
                raise Injected(f"behind {name}")
            return result
        return call


def put_in_place():
    raising = Raising(eep.loading.lib)
    for name, module in list(sys.modules.items()):
        if name.startswith("eep.") and hasattr(module, "lib"):
            module.lib = raising
    return raising


def kernel(rows, results):
    results[:] = rows


def prepared(store, **options):
    """A context with weights and a captured step; it has not joined."""
    context = eep.Context(store, rank=0, num_experts=2, top_k=1, hidden=8, num_max_tokens_per_rank=2,
                          profile="quick", log=True, event=True, **{"num_ranks": 1, **options})
    for slot in range(context.num_slots):
        (weight,) = context.slot_alloc(0, slot, [(8,)])
        weight.write(context.slot_expert(0, slot))
    buffers = context.buffers()
    with context.capture() as graph:
        context.dispatch(0, **buffers.dispatch)
        context.stream.launch(kernel, buffers.rows, buffers.results)
        context.combine(0, **buffers.combine)
    return context, buffers, graph


def step(context, buffers, graph):
    with context.step(5):
        buffers.fill(np.ones((1, 8)), [[1]], [[2.0]])
        graph.replay()
    if buffers.out[0, 0] != 2:
        raise RuntimeError("a wrong result")


def scenario():
    """Nearly every call of the package, once."""
    with eep.Store() as store, eep.Sink(2) as sink:
        sink.assign(0, 0, 1)
        context, buffers, graph = prepared(store, backup_copies=1)
        with context:
            for expert in range(2):
                context.backup_set(0, expert, [np.full(8, expert, np.float32)])
            context.join(10)
            with eep.Watch(store.path) as watch:
                watch.next(5)
                step(context, buffers, graph)
                context.step_wait(0)
                context.snapshot()
                context.loads()
                context.poll()
                np.from_dlpack(buffers.out)
                context.device.register(np.zeros(4))
                step(context, buffers, graph)
            context.drain()
            try:
                while True:
                    try:
                        step(context, buffers, graph)
                    except eep.Aborted:
                        pass
            except eep.Drained:
                pass


# ---------------------------------------------------------------- ends with a name

def end_with_everything_open():
    store = eep.Store()
    context, buffers, graph = prepared(store)
    context.join(10)
    step(context, buffers, graph)
    keep.extend([store, context, buffers, graph])


def end_beside_a_thread_that_steps():
    store = eep.Store()
    parts = prepared(store)
    parts[0].join(10)

    def go_on():
        while True:
            step(*parts)

    threading.excepthook = lambda _: None
    threading.Thread(target=go_on, daemon=True).start()
    keep.extend([store, parts])
    time.sleep(0.1)


def end_beside_a_thread_that_joins():
    store = eep.Store()
    parts = prepared(store, num_ranks=2)
    threading.excepthook = lambda _: None
    threading.Thread(target=parts[0].join, daemon=True).start()
    keep.extend([store, parts])
    time.sleep(0.1)


def end_inside_a_step():
    store = eep.Store()
    context, _, graph = prepared(store)
    context.join(10)
    with context.step(5):
        graph.replay()
        sys.exit(7)


def end_inside_a_capture():
    with eep.Store() as store:
        context = prepared(store)[0]
        with context.capture():
            sys.exit(7)


def end_inside_a_kernel():
    with eep.Device() as device, device.stream() as stream:
        stream.launch(lambda: sys.exit(3))
        stream.synchronize(5)


def end_with_a_kernel_that_goes_on():
    device = eep.Device()
    stream = device.stream()
    stream.launch(lambda: time.sleep(0.3))
    keep.extend([device, stream])


def end_without_python():
    end_with_everything_open()
    os._exit(7)


def end_by_ctrl_c():
    store = eep.Store()
    context = prepared(store, num_ranks=2)[0]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, if a shell began this behind itself
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    context.join(30)


keep = []
ENDS = {end_with_everything_open: 0, end_beside_a_thread_that_steps: 0,
        end_beside_a_thread_that_joins: 0, end_inside_a_step: 7, end_inside_a_capture: 7,
        end_inside_a_kernel: 1, end_with_a_kernel_that_goes_on: 0, end_without_python: 7,
        end_by_ctrl_c: -signal.SIGINT}


class InChild(Exception):
    """Carries what a forked child is to do out of the loops of its parent."""


def start(what):
    """Fork. The child leaves all loops by InChild, does `what` and ends as a program ends."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        raise InChild(what)
    return pid


def end_of(pid, status):
    """The exit code, negative for a signal; or that a process is left of the child's group."""
    try:
        os.killpg(pid, signal.SIGKILL)
        return "left a process"
    except ProcessLookupError:
        return os.waitstatus_to_exitcode(status)


def ends_of(children):
    """Run them, some at once: [(what, how it ended)]."""
    waiting, running, found = list(reversed(children)), {}, []
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            what = waiting.pop()
            running[start(what)] = (what, time.monotonic() + LIMIT_S)
        for pid, (what, limit) in list(running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                found.append((what, end_of(pid, status)))
                del running[pid]
            elif time.monotonic() > limit:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                found.append((what, "hangs"))
                del running[pid]
        time.sleep(0.003)
    return found


def inject(at, behind):
    raising = put_in_place()
    raising.at, raising.behind = at, behind
    scenario()


def count_calls():
    """How many calls of C the scenario makes."""
    raising = put_in_place()
    scenario()
    gc.collect()
    return raising.calls


def descriptors():
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass  # that of the listing
    return sorted(found)


def leaves_nothing():
    """Exceptions that are caught: after each the process has the descriptors it had before."""
    raising = put_in_place()
    scenario()
    gc.collect()
    before = descriptors()
    for at in range(1, raising.calls + 1, 7):
        raising.at, raising.calls = at, 0
        try:
            scenario()
        except Exception:  # pylint: disable=broad-except
            pass
        raising.at = -1
        gc.collect()
        objects.close_all()
        if len(descriptors()) > len(before):
            raise RuntimeError(f"call {at}: {descriptors()}, before it {before}")
    scenario()


def calls_in_a_child():
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, str(count_calls()).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    return int(os.read(read, 20) or 0)


def run(everything):
    calls = calls_in_a_child()
    expected = {(end, ()): {code} for end, code in ENDS.items()}
    expected[(leaves_nothing, ())] = {0}
    for at in range(1, calls + 1, 1 if everything else SHARE):
        for behind in (False, True):
            expected[(inject, (at, behind))] = {0, 1}
    wrong = [f"{what.__name__}{arguments}: {found}, expected {expected[(what, arguments)]}"
             for (what, arguments), found in ends_of(list(expected))
             if found not in expected[(what, arguments)]]
    print("\n".join(wrong + [f"{len(expected)} ends of a program, {len(wrong)} of them wrong; "
                             f"{calls} calls of C"]))
    return 1 if wrong or calls < 60 else 0


def main():
    try:
        return run("--all" in sys.argv[1:])
    except InChild as told:
        what, arguments = told.args[0]
    what(*arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
