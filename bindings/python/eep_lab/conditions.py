# SPDX-License-Identifier: Apache-2.0
"""How the rows of a series are made: whoever goes on with it later must make its rows in the same
way, or rows that differ in more than the parameters stand in one file."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pathlib
import shutil
import types
import uuid
from typing import Any, Callable, Mapping, Optional, Sequence, Union

from .connection import EepError
from .run import find_eep_run

PROGRAM = "eep-run "
PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _code(code: types.CodeType) -> list[Any]:
    """What a function does, without the place where it stands."""
    consts = [_code(one) if isinstance(one, types.CodeType) else
              sorted(map(repr, one)) if isinstance(one, frozenset) else one
              for one in code.co_consts]
    return [code.co_name, code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars,
            consts]


class _Unknown(Exception):
    """A value of which two cannot be told apart."""


class _Look:
    """At what a function is made of. One that holds half of the program is given up."""

    def __init__(self) -> None:
        self._left = 10000

    def value(self, value: Any) -> Any:
        """What tells it from another value, the same in each process."""
        self._left -= 1
        if self._left < 0:
            raise _Unknown("too much")
        if type(value) in PLAIN:
            return value
        name = type(value).__qualname__
        if isinstance(value, (list, tuple)):
            return [name, [self.value(one) for one in value]]
        if isinstance(value, (set, frozenset)):
            return [name, sorted(repr(self.value(one)) for one in value)]
        if isinstance(value, dict):
            return [name, [[self.value(one) for one in item] for item in value.items()]]
        if isinstance(value, (types.ModuleType, type)):
            return value.__name__
        if callable(value):
            return self.function(value)
        if hasattr(value, "tobytes"):  # an array: its repr may leave out most of it
            return [name, repr(value), _digest(value.tobytes())]
        return [name, self._object(value) if type(value).__repr__ is object.__repr__ else
                _no_address(repr(value), name)]

    def _object(self, value: Any) -> Any:
        if not hasattr(value, "__dict__"):
            raise _Unknown(f"a {type(value).__qualname__}")
        return self.value(vars(value))

    def _cell(self, cell: Any) -> Any:
        try:
            value = cell.cell_contents
        except ValueError:  # not bound yet
            return None
        return self.value(value)

    def function(self, function: Any) -> Any:
        if isinstance(function, functools.partial):
            return ["partial", self.value(function.func), self.value(function.args),
                    self.value(function.keywords)]
        if isinstance(function, types.MethodType):
            return [self.value(function.__func__), self.value(function.__self__)]
        code = getattr(function, "__code__", None)
        if code is not None:
            return [function.__qualname__, _code(code), self.value(function.__defaults__),
                    self.value(function.__kwdefaults__),
                    [self._cell(cell) for cell in function.__closure__ or ()]]
        call = getattr(type(function), "__call__")
        if not hasattr(call, "__code__"):
            return getattr(function, "__qualname__", type(function).__qualname__)
        return [self.value(call), self._object(function)]


def _no_address(text: str, name: str) -> str:
    if " at 0x" in text:
        raise _Unknown(f"a {name}")
    return text


def _function(function: Optional[Callable[..., Any]]) -> Optional[str]:
    """Its name, its code, and the values that it has from where it was made: defaults, a closure's,
    those of a partial, the object of a method. What it reads from globals, and the functions that
    it calls by name, are not looked at. One that holds what cannot be compared is like no other."""
    if function is None:
        return None
    name = getattr(function, "__qualname__", type(function).__qualname__)
    try:
        return f"{name} {_digest(_Look().function(function))}"
    except (_Unknown, RecursionError) as unknown:
        return f"{name} {uuid.uuid4().hex[:16]}: it holds {unknown}, which cannot be compared"


def _program(path: str) -> str:
    """The program by what is in it: its path and its age may differ."""
    found = shutil.which(path)
    try:
        return hashlib.sha256(pathlib.Path(found or path).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise EepError(f"no eep-run: {error}") from None


class Conditions:
    """Names and values, as in sweep.json."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = json.loads(json.dumps(values, default=str, sort_keys=True))

    @staticmethod
    def read(path: pathlib.Path) -> Optional["Conditions"]:
        """None: there is no such file."""
        try:
            values = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise EepError(f"'{path}': {error}; give another out=") from None
        if not isinstance(values, dict):
            raise EepError(f"'{path}' does not say how rows were made: give another out=")
        return Conditions(values)

    def write(self, path: pathlib.Path) -> None:
        """Whole or not at all."""
        new = path.with_suffix(".new")
        new.write_text(json.dumps(self._values, indent=2) + "\n")
        os.replace(new, path)

    def difference(self, before: "Conditions") -> Optional[str]:
        """The first name that differs, with both values; None: none does. Programs that only one of
        them has are other values of a parameter."""
        for name in sorted({*self._values, *before._values}):
            new, old = (one._values.get(name) for one in (self, before))
            is_program = name.startswith(PROGRAM) and None in (new, old)
            if new != old and not is_program:
                new, old = ("none" if one is None else json.dumps(one) for one in (new, old))
                return f"with {name} {old}, and not with {new}"
        return None

    def with_those(self, before: "Conditions") -> "Conditions":
        """Both: other values of a parameter may need other programs."""
        return Conditions({**before._values, **self._values})


def conditions_of(names: Sequence[str], points: Sequence[Mapping[str, Any]], is_option: bool,
                  options: Mapping[str, Any], drive: Optional[Callable[..., Any]],
                  measure: Callable[..., Any], jobs: int) -> Conditions:
    """How `sweep` makes its rows. Seeds and the parameters' values stand in the rows themselves."""
    values: dict[str, Any] = {"parameters": sorted(names), "is_option": is_option,
                              "drive": _function(drive), "measure": _function(measure),
                              "jobs": jobs}
    program: Union[str, os.PathLike[str], None] = options.get("program")
    if is_option and "program" in names:
        for path in {str(point["program"]) for point in points}:
            values[PROGRAM + path] = _program(path)
    else:
        values["eep-run"] = _program(os.fspath(program or find_eep_run()))
    values.update({f"option {name}": value for name, value in options.items()
                   if name not in ("program", "start_timeout")})
    values.update({f"variable {name}": value for name, value in os.environ.items()
                   if name.startswith("EEP_") and name != "EEP_RUN"})
    return Conditions(values)
