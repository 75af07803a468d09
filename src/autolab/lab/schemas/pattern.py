"""Which regular expressions may read a training's output: one group, and no form that can take for ever on a line."""

from __future__ import annotations

import re

LENGTH = 300
"""Characters of a pattern at most."""
WIDE = 3
"""Repeats of almost any character (`.*`) at most: each multiplies the time that a long line can take."""

_TOKEN = re.compile(
    r"\\.|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<open>\((?:\?[:=!>]|\?<[=!]|\?P?<\w+>)?)|(?P<close>\))"
    r"|(?P<repeat>[*+]|\{\d*,?\d*\})|(?P<either>\|)|.",
    re.DOTALL,
)


def refuse_pattern(pattern: str) -> None:
    """ValueError, with the way out, if it does not compile, has not one group, or repeats what repeats."""
    if len(pattern) > LENGTH:
        raise ValueError(f"pattern: {len(pattern)} characters, more than the {LENGTH} allowed")
    try:
        groups = re.compile(pattern).groups
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"pattern: {pattern!r} is no regular expression: {error}") from None
    if groups != 1:
        raise ValueError(
            f"pattern: {pattern!r} has {groups} groups; it needs one, around the number, such as"
            r" 'val loss ([-+.\deE]+)'; (?:...) groups without counting"
        )
    if _may_take_for_ever(pattern):
        raise ValueError(
            f"pattern: {pattern!r} could take for ever: no repeat of what repeats or has a choice, no more than {WIDE}"
            " repeats of any character"
        )


def _may_take_for_ever(pattern: str) -> bool:
    """Whether a group that repeats or holds a choice is repeated, or WIDE is passed."""
    open_groups = [False]
    wide = 0
    is_risky, is_wide = False, False
    for token in _TOKEN.finditer(pattern):
        kind, text = token.lastgroup, token[0]
        if kind == "repeat":
            if is_risky and text not in ("{1}", "{0,1}"):
                return True
            if text in ("*", "+") or text.endswith(",}"):
                wide += is_wide
            open_groups[-1] = True
            continue
        is_risky = False
        if kind == "open":
            open_groups.append(False)
        elif kind == "close":
            is_risky = open_groups.pop() if len(open_groups) > 1 else False
            # A group in a group: what is inside is inside of both.
            open_groups[-1] = open_groups[-1] or is_risky
        elif kind == "either":
            open_groups[-1] = True
        is_wide = text in (".", r"\S", r"\D", r"\W") or text.startswith("[^")
    return wide > WIDE
