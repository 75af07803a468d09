"""Findings: what a verifier reports, blocking or advisory."""

from __future__ import annotations

from typing import Literal

from autolab.lab.schemas.experiment import Finding
from autolab.text import many_lines, one_line

MESSAGE = 10_000
"""Characters of a finding's message."""


def blocking_finding(check: str, message: str, file: str | None = None) -> Finding:
    return _finding(check, "blocking", message, file)


def advisory_finding(check: str, message: str, file: str | None = None) -> Finding:
    return _finding(check, "advisory", message, file)


def _finding(check: str, severity: Literal["blocking", "advisory"], message: str, file: str | None) -> Finding:
    # Messages quote file names and what programs print, which may hold anything; a record holds text alone.
    name = None if file is None else one_line(file)
    return Finding(check=check, severity=severity, message=many_lines(message, MESSAGE), file=name)


def shown_path(path: str) -> str:
    return path if path.isprintable() else ascii(path)
