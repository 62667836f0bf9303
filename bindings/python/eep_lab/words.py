# SPDX-License-Identifier: Apache-2.0
"""Options of eep-run and events of its grammar, as text."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence, Union

Who = Union[int, str, Sequence[int]]
"""A rank, several, or a text such as "random:2", "lowest", "3@ready:5" (eep-ctl --help)."""


def option_words(options: Mapping[str, Any]) -> list[str]:
    """ranks=4, kill=["1@2", "3@4"], force=True -> --ranks=4 --kill=1@2 --kill=3@4 --force"""
    words = []
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is True:
                words.append(option)
            elif one is not None and one is not False:
                words.append(f"{option}={one}")
    return words


def _rank(rank: Any) -> str:
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 0:
        raise ValueError(f"{rank!r} is no rank: an int from 0, several of them, or a text such as "
                         "'random:2'")
    return str(rank)


def _several(who: Any) -> Sequence[Any]:
    try:
        return list(who)
    except TypeError:
        return [who]  # _rank says what is wrong with it


def event_text(who: Optional[Who], value: Optional[str] = None, when: Optional[str] = None) -> str:
    """WHO[=VALUE][@WHEN] of the grammar."""
    if who is None:
        text = value or ""
    else:
        text = who if isinstance(who, str) else ",".join(map(_rank, [who] if isinstance(who, int)
                                                             else _several(who)))
        text += f"={value}" if value else ""
    return text + (f"@{when}" if when else "")


MOST_SECONDS = 60  # of a stop or the like: what is longer was meant in milliseconds


def duration_text(verb: str, duration: Optional[str], seconds: Optional[float]) -> Optional[str]:
    """What stands for it in the grammar. A number needs its unit: in its name or in the text."""
    if seconds is not None:
        if duration is not None:
            raise ValueError(f"{verb}: both a duration, {duration!r}, and seconds={seconds:g}")
        if isinstance(seconds, bool) or not 0 < seconds <= MOST_SECONDS:
            raise ValueError(f"{verb}: seconds={seconds!r} is not between 0 and {MOST_SECONDS}; "
                             f"are these milliseconds? A longer one is written '{seconds}s'")
        return f"{seconds:g}s"
    if duration is not None and (not isinstance(duration, str) or duration[-1:].isdigit()):
        raise ValueError(f"{verb}: the duration {duration!r} has no unit: seconds=0.4, '400ms' or "
                         "'0.9x' (of --expel-ms)")
    return duration
