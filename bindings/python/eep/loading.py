# SPDX-License-Identifier: Apache-2.0
"""Loads UCX and then the extension module with libeep, and says where both came from."""
import ctypes
import importlib.util
import os
import re
from typing import Any, Dict, Optional

_UCX = ("libucs.so.0", "libuct.so.0", "libucp.so.0")  # each finds what it needs beside itself


def _ucx_folder_of_wheel() -> Optional[str]:
    found = importlib.util.find_spec("libucx")
    if found is None or not found.origin:
        return None
    folder = os.path.join(os.path.dirname(found.origin), "lib")
    return folder if os.path.exists(os.path.join(folder, _UCX[-1])) else None


def _system_has_ucx() -> bool:
    try:
        ctypes.CDLL(_UCX[-1])
    except OSError:
        return False
    return True


def _load_ucx() -> str:
    """libeep asks the loader for libucp.so.0, and gets the one that is there by then."""
    asked = os.environ.get("EEP_PYTHON_UCX", "auto")
    if asked not in ("auto", "system", "wheel"):
        raise ImportError(f"EEP_PYTHON_UCX is '{asked}': it must be auto, system or wheel")
    if asked != "wheel" and _system_has_ucx():
        return "system"
    folder = None if asked == "system" else _ucx_folder_of_wheel()
    if folder is None:
        raise ImportError(
            "no UCX: install the system's (Debian: libucx0) or the wheel (pip install libucx-cu12)"
            if asked == "auto" else f"EEP_PYTHON_UCX is '{asked}', and there is none of that kind")
    for name in _UCX:
        ctypes.CDLL(os.path.join(folder, name))
    return "wheel libucx"


UCX_FROM = _load_ucx()

from ._eep import ffi as ffi, lib as lib  # noqa: E402  (behind UCX)


def text_of(pointer: Any) -> str:
    """A C string as a str; "" for NULL."""
    return "" if pointer == ffi.NULL else ffi.string(pointer).decode("utf-8", "replace")


def version() -> str:
    """The version of libeep, "major.minor.patch"."""
    number = lib.eep_version()
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def _mapped(pattern: str) -> str:
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            path = line.split(maxsplit=5)[-1].strip()
            if re.search(pattern, path):
                return path
    return ""


def info() -> Dict[str, str]:
    """Versions and files in use: `eep`, `libeep` (the file), `ucx` (the version), `ucx_from`
    ("system" or "wheel libucx"), `ucx_file`, and `cuda`: "plugin" where the CUDA plugin lies
    beside libeep, else ""."""
    ucp = ctypes.CDLL(_UCX[-1])
    ucp.ucp_get_version_string.restype = ctypes.c_char_p
    libeep = _mapped(r"/libeep\.so")
    plugin = os.path.join(os.path.dirname(libeep), "libeep_cuda.so")
    return {"eep": version(), "libeep": libeep, "ucx": ucp.ucp_get_version_string().decode(),
            "ucx_from": UCX_FROM, "ucx_file": _mapped(r"/libucp[.-]"),
            "cuda": "plugin" if os.path.exists(plugin) else ""}
