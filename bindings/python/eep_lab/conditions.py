"""How the rows of a series are made: whoever goes on with it later must make its rows in the same
way, or rows that differ in more than the parameters stand in one file."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import types
from typing import Any, Callable, Mapping, Optional, Sequence, Union

from .connection import EepError
from .run import find_eep_run

PROGRAM = "eep-run "
PLAIN = (bool, int, float, str, bytes, type(None))


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _code(code: types.CodeType) -> list[Any]:
    """What a function does, without the place where it stands."""
    consts = [_code(one) if isinstance(one, types.CodeType) else
              sorted(map(repr, one)) if isinstance(one, frozenset) else one
              for one in code.co_consts]
    return [code.co_name, code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars,
            consts]


def _cell(cell: Any) -> Any:
    try:
        value = cell.cell_contents
    except ValueError:  # not bound yet
        return None
    return value if isinstance(value, PLAIN) else type(value).__qualname__


def _function(function: Optional[Callable[..., Any]]) -> Optional[str]:
    """Its name, its code, and the plain values that it has from where it was made. What it reads
    from globals, and the functions that it calls, are not looked at."""
    if function is None:
        return None
    name = getattr(function, "__qualname__", type(function).__qualname__)
    code = getattr(function, "__code__", None)
    if code is None:
        return name
    given = [one if isinstance(one, PLAIN) else type(one).__qualname__
             for one in function.__defaults__ or ()]
    return f"{name} {_digest(_code(code), given, list(map(_cell, function.__closure__ or ())))}"


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
