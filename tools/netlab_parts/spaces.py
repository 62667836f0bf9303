# SPDX-License-Identifier: Apache-2.0
"""Namespaces, and the processes that hold them. Every one carries a label in its environment."""
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "netlab")
HOLDER = "EEP_NETLAB_HOLDER"
KINDS = {"mnt": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "pid": 0x20000000, "net": 0x40000000,
         "time": 0x80}
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The command cannot be done; the text says why."""


def call(name, *arguments):
    if getattr(LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source, target, kind=None, flags=0, data=None):
    call("mount", *(text.encode() if text is not None else None for text in (source, target, kind)),
         ctypes.c_ulong(flags), data.encode() if data else None)


def unshare(*kinds):
    call("unshare", ctypes.c_int(sum(KINDS[kind] for kind in kinds)))


def holders(lab=None):
    """{laboratory: {name of the holder: pid}} of the processes that carry our label."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                match = re.search(rb"(?:^|\0)" + HOLDER.encode() + rb"=([^\0/]+)/([^\0]*)", file.read())
            with open(f"/proc/{pid}/stat") as file:
                ended = file.read().rsplit(")", 1)[1].split()[0] in "ZX"
        except OSError:
            continue
        if not match or ended or (lab is not None and match[1].decode() != lab):
            continue
        name = match[2].decode()
        found.setdefault(match[1].decode(), {})[f"up {pid}" if name == "up" else name] = int(pid)
    return found


def hold(lab, name):
    """Become the process that holds the namespaces we are in, under the label of the laboratory."""
    os.execve(sys.executable, [sys.executable, "-I", PROGRAM, "_hold"],
              {HOLDER: f"{lab}/{name}", "PATH": os.environ.get("PATH", "")})


def reap_for_ever():
    """The first process of a pid namespace: it takes the ends of those that lost their parents."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        signal.sigwait({signal.SIGCHLD})


def start_holder(prepare, kinds, lab, name):
    """Fork into new namespaces, prepare them, hold them. Returns the pid; Refused with the reason."""
    read_end, write_end = os.pipe()
    middle = os.fork()
    if middle == 0:
        try:
            os.setsid()
            os.close(read_end)
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1):
                os.dup2(null, fd)
            prepare_child(prepare, kinds, lab, name, write_end)
        except BaseException as error:  # pylint: disable=broad-except
            os.write(write_end, f"!{error}\n".encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as answers:
        text = answers.read()  # ends when the holder runs: its end closes at exec
    os.waitpid(middle, 0)
    if "!" in text or not text.strip():
        raise Refused(f"{name}: {text.split('!')[-1].strip() or 'its holder has ended'}")
    return int(text)


def prepare_child(prepare, kinds, lab, name, write_end):
    prepare("before")
    unshare(*kinds)
    prepare("outside")
    inner = os.fork()
    if inner == 0:
        try:
            prepare("inside")
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 2)
            hold(lab, name)
        except BaseException as error:  # pylint: disable=broad-except
            os.write(write_end, f"!{error}\n".encode())
        os._exit(1)
    os.write(write_end, f"{inner}\n".encode())


def end(pids):
    """SIGKILL them, and wait until they have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 20
    for pid in pids:
        while is_running(pid):
            if time.monotonic() > until:
                raise Refused(f"process {pid} does not end")
            time.sleep(0.005)


def is_running(pid):
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def in_net(pid, *command, text=None):
    done = subprocess.run(["nsenter", "-t", str(pid), "-n", *command], input=text, text=True,
                          capture_output=True, check=False)
    if done.returncode != 0:
        raise Refused(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
