# SPDX-License-Identifier: Apache-2.0
"""A systemd that is process 1 of namespaces of its own, with the units of a folder and no others."""
import os
import subprocess
import time

from launch_lab import Left

# /run is its own, and so is what it sees of control groups.
BEGIN = """mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir /run/lock &&
mount -t cgroup2 cgroup2 /sys/fs/cgroup &&
exec "$0" --system --unit=eep-test.target --log-target=console --show-status=0"""
SYSTEMD = "/lib/systemd/systemd"
START_S = 15


def cgroup2():
    with open("/proc/mounts", encoding="utf-8") as file:
        found = [line.split()[1] for line in file if line.split()[2] == "cgroup2"]
    if not found:
        raise Left("no cgroup2 here")
    return found[0]


class Systemd:
    def __init__(self, launched, units):
        self.launched, self.units = launched, units
        self.group = f"{cgroup2()}/eep-test-{os.getpid()}"

    def __enter__(self):
        try:
            os.mkdir(self.group)
        except OSError as error:
            raise Left(f"no control group can be made here: {error}") from None
        self.child = self.launched.start(
            ["sh", "-c", 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"', "sh", self.group, "unshare", "--fork", "--pid",
             "--mount", "--mount-proc", "--cgroup", "--kill-child", "sh", "-c", BEGIN, SYSTEMD],
            SYSTEMD_UNIT_PATH=self.units, container="other")
        begin = time.monotonic()
        self.first = None
        while self.first is None or self.control("is-active", "eep-test.target") != "active\n":
            if self.child.poll() is not None or time.monotonic() - begin > START_S:
                self.__exit__()
                raise Left(f"no systemd runs in namespaces here: {self.launched.log()[-300:]}")
            with open(f"/proc/{self.child.pid}/task/{self.child.pid}/children", encoding="utf-8") as file:
                self.first = next(iter(file.read().split()), None)
            time.sleep(0.05)
        return self

    def control(self, *words):
        done = subprocess.run(["nsenter", "--target", self.first, "--mount", "--pid", "systemctl", *words],
                              capture_output=True, text=True, check=False)
        return done.stdout

    def __exit__(self, *_):
        self.child.kill()  # and with it process 1, which takes all others along
        self.child.wait()
        end = time.monotonic() + 10
        while os.path.isdir(self.group) and time.monotonic() < end:
            for folder, _, _ in os.walk(self.group, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    time.sleep(0.02)
