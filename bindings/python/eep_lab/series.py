# SPDX-License-Identifier: Apache-2.0
"""Series of runs: a row for each."""

from __future__ import annotations

import concurrent.futures
import csv
import itertools
import os
import pathlib
import sys
import threading
from typing import Any, Callable, Iterable, Mapping, Optional, Sequence, Union

from .conditions import Conditions, conditions_of
from .connection import EepError
from .run import Run


def pauses_ms(summary: Mapping[str, Any]) -> list[float]:
    """The pauses of a run's faults that have one."""
    return [fault["pause_ms"] for fault in summary["faults"] if fault["pause_ms"] is not None]


def _measure(summary: Mapping[str, Any]) -> dict[str, Any]:
    pauses = pauses_ms(summary)
    return {"good": summary["good"], "faults": len(summary["faults"]),
            "pause_ms": max(pauses, default=None), "step_p50_ms": summary["step_ms"]["p50"],
            "step_p99_ms": summary["step_ms"]["p99"], "tokens": summary["tokens_emitted"],
            "commit": summary["commit"]}


class _Rows:
    """The rows of a sweep, in memory and, as they come, in a CSV file."""

    def __init__(self, folder: Optional[pathlib.Path], resume: bool) -> None:
        self.rows: list[dict[str, Any]] = []
        self.kept: dict[tuple[str, ...], dict[str, Any]] = {}
        self._file = folder / "rows.csv" if folder else None
        self._conditions = folder / "sweep.json" if folder else None
        self._lock = threading.Lock()
        if not folder:
            return
        if folder.exists() and any(folder.iterdir()) and not resume:
            raise EepError(f"'{folder}' holds results already: give another out=, or resume=True "
                           "to keep its good rows and make the others")
        folder.mkdir(parents=True, exist_ok=True)

    def agree(self, conditions: Conditions) -> None:
        """Refuse rows that were made otherwise than the coming ones; note how those are made."""
        if not self._conditions:
            return
        before = Conditions.read(self._conditions)
        if before is None and self._file and self._file.exists():
            raise EepError(f"'{self._file}' has no '{self._conditions.name}' beside it that says "
                           "how its rows were made: give another out=")
        if before is not None:
            other = conditions.difference(before)
            if other:
                raise EepError(f"the rows in '{self._file}' were made otherwise: {other}; give "
                               "another out=")
            conditions = conditions.with_those(before)
        conditions.write(self._conditions)

    def read(self, names: Sequence[str]) -> None:
        """What an earlier sweep into the folder, of the same parameters, has finished."""
        if self._file and self._file.exists():
            with open(self._file, newline="") as file:
                reader = csv.DictReader(file)
                missing = {*names, "run"}.difference(reader.fieldnames or [])
                if missing:
                    raise EepError(f"'{self._file}' is of another sweep: it has no column "
                                   f"'{sorted(missing)[0]}'; give another out=")
                for row in reader:
                    if row.get("error") == "":
                        kept = {name: _value(text) for name, text in row.items()}
                        kept["error"] = ""
                        self.kept[tuple(row[name] for name in names)] = kept
            self.rows = list(self.kept.values())  # whatever is cut off next, these stay

    def add(self, row: dict[str, Any]) -> None:
        with self._lock:
            self.rows.append(row)
            self.rows.sort(key=lambda one: one["run"])
            if not self._file:
                return
            columns = list(dict.fromkeys(name for one in self.rows for name in one))
            new = self._file.with_suffix(".new")
            with open(new, "w", newline="") as file:
                writer = csv.DictWriter(file, columns, restval="")
                writer.writeheader()
                writer.writerows(self.rows)
            os.replace(new, self._file)  # a sweep that is cut off leaves whole rows


def _value(text: str) -> Any:
    """A cell of a CSV file as what it was."""
    for known, value in (("True", True), ("False", False), ("", None)):
        if text == known:
            return value
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _points(parameter: Union[str, Mapping[str, Iterable[Any]]],
            values: Optional[Iterable[Any]]) -> list[dict[str, Any]]:
    if isinstance(parameter, str):
        if values is None:
            raise EepError(f"sweep: no values for '{parameter}' are given")
        return [{parameter: value} for value in values]
    if values is not None:
        raise EepError("sweep: with a grid of parameters their values stand in it")
    grid = {name: list(some) for name, some in parameter.items()}
    return [dict(zip(grid, chosen)) for chosen in itertools.product(*grid.values())]


def _tell(progress: Union[bool, Callable[[dict[str, Any]], None], None], row: dict[str, Any],
          how: str, done: int, total: int, names: Sequence[str]) -> None:
    if callable(progress):
        progress(row)
    elif progress or (progress is None and sys.stderr.isatty()):
        at = " ".join(f"{name}={row[name]}" for name in names)
        first_line = str(row["error"]).split("\n", maxsplit=1)[0]
        how = f"failed: {first_line}" if row["error"] else how
        print(f"{done}/{total} {at} repeat={row['repeat']}: {how}", file=sys.stderr, flush=True)


def sweep(parameter: Union[str, Mapping[str, Iterable[Any]]],
          values: Optional[Iterable[Any]] = None, *,
          drive: Optional[Callable[[Run, Any], None]] = None,
          is_option: bool = True, repeats: int = 1,
          measure: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _measure,
          out: Union[str, os.PathLike[str], None] = None, resume: bool = False, jobs: int = 1,
          progress: Union[bool, Callable[[dict[str, Any]], None], None] = None,
          seed: int = 1, **options: Any) -> list[dict[str, Any]]:
    """A run for each value, `repeats` times over; a row for each run.

    parameter: an option of eep-run that takes the values in turn; or a grid {option: values, ...},
    of which every combination is run. With is_option=False they are only names in the rows.
    drive(run, value): what is done while it serves; with a grid `value` is a dictionary.
    measure(summary): the columns behind the parameters, run, repeat, seed and error; by default
    good, faults, pause_ms (the longest), step_p50_ms, step_p99_ms, tokens and commit. Values are
    interleaved (all values, then all again), so that a machine that slows down favours none.

    seed: of the first repeat; the others have the next ones. All values of a repeat have one seed.
    A run that fails, or whose drive raises, is a row with its `error` and without the measured
    columns; the others go on. out: a folder for rows.csv, rewritten with each row, and the results
    of each run in run-NNNN; one that is not empty is refused, unless resume=True: then runs whose
    row is there without an error are not made again. Only rows that were made in the same way are
    gone on with: with the same eep-run, options, drive, measure and jobs, and the same variables
    EEP_* (sweep.json, conditions.py). Other values and more repeats may be asked for.
    jobs: so many runs at once (they share the processors: for counts, not for times). progress:
    True for a line on standard error after each run, False for none, a function that is called with
    each row; by default, lines on a terminal.
    """
    points = _points(parameter, values)
    names = list(points[0]) if points else []
    folder = pathlib.Path(os.fspath(out)) if out is not None else None
    found = _Rows(folder, resume)
    found.read((*names, "repeat", "seed"))
    if folder:
        found.agree(conditions_of(names, points, is_option, options, drive, measure, jobs))
    used = {row["run"] for row in found.rows}
    free = (number for number in itertools.count() if number not in used)
    todo = [(repeat, point) for repeat in range(repeats) for point in points]
    made: list[dict[str, Any]] = []
    for repeat, point in todo:
        seeded = {"seed": seed + repeat, **(point if is_option else {})}
        row = {**point, "repeat": repeat, "seed": seeded["seed"]}
        kept = found.kept.get(tuple(str(row[name]) for name in (*names, "repeat", "seed")))
        made.append(kept if kept else {**point, "run": next(free), **row, "error": ""})
        made[-1].update(row)  # what a file holds as text is what was asked for

    def one(row: dict[str, Any], point: dict[str, Any]) -> None:
        is_kept = any(row is kept for kept in found.kept.values())
        if not is_kept:
            seeded = {"seed": row["seed"], **(point if is_option else {})}
            given = {**options, **seeded}
            if folder:
                given.update(out=folder / f"run-{row['run']:04d}", force=True)
            try:
                with Run(**given) as run:
                    if drive:
                        drive(run, point if not isinstance(parameter, str) else point[parameter])
                    row.update(measure(run.finish()))
            except Exception as error:  # pylint: disable=broad-except; it is the row's
                row["error"] = f"{type(error).__name__}: {error}"
            found.add(row)
        done = next(counted)
        _tell(progress, row, "kept" if is_kept else "done", done, len(todo), names)

    counted = itertools.count(1)
    tasks = [(row, point) for row, (_, point) in zip(made, todo)]
    if jobs == 1:
        for task in tasks:
            one(*task)
    else:
        with concurrent.futures.ThreadPoolExecutor(jobs) as workers:
            for running in [workers.submit(one, *task) for task in tasks]:
                running.result()
    return made
