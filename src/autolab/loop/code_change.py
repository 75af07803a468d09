"""What a candidate changes in the code, in few words: for the history that later prompts quote."""

from __future__ import annotations

from autolab.lab.git import Git
from autolab.text import one_line

CHARACTERS = 1_500
"""Of one change, as a lesson keeps it."""
_DIFF_BYTES = 64 * 1024
_LINE = 160


def code_change(git: Git, base: str, commit: str | None) -> str:
    """`+1 -1 lines: models/net.py: -x = relu(x) +x = gelu(x)`; empty if nothing differs. Long ones are cut."""
    if commit is None:
        return ""
    added = removed = 0
    words: list[str] = []
    old, in_head = "", True
    for line in git.diff_text(base, commit, _DIFF_BYTES).split("\n"):
        if line.startswith(("diff --git ", "@@ ")):
            in_head = line.startswith("diff")
        elif in_head and line.startswith("--- "):
            old = line.removeprefix("--- a/")
        elif in_head and line.startswith("+++ "):
            is_deleted = line == "+++ /dev/null"
            words.append(f"{old} (deleted):" if is_deleted else f"{line.removeprefix('+++ b/')}:")
        elif not in_head and line[:1] in ("+", "-") and line[1:].strip():
            added += line[0] == "+"
            removed += line[0] == "-"
            words.append(f"{line[0]}{one_line(line[1:].strip(), _LINE)}")
    if not words:
        return ""
    return one_line(f"+{added} -{removed} lines: {' '.join(words)}", CHARACTERS)
