"""Whether a training program asks git: by its text, or by what it did in its first run."""

from __future__ import annotations

import re

from autolab.adoption.detection import Setting
from autolab.adoption.training_program import Program

_ASKS_GIT = re.compile(
    r"""(?m)^\s*(?:import|from) (?:git|pygit2|dulwich)\b|\bgit\.Repo\("""
    r"""|["']git["'],\s*["'][a-z-]+["']|["'`(]git (?:rev-parse|describe|log|status|diff|show)\b"""
)
"""GitPython and its like, and calls of git by a list of words or by a line."""
REPOSITORY = "train.repository"


def setting_of(program: Program) -> list[Setting]:
    """The setting that gives trials a repository, if the program's text asks git."""
    call = _ASKS_GIT.search(program.text + "\n" + program.neighbours)
    return [asked(f"{program.name}: {' '.join(call[0].split())}")] if call else []


def asked(what: str) -> Setting:
    """The setting, with what was seen to ask git."""
    return Setting(REPOSITORY, True, f"{what}; trials get a read-only repository of what they see")
