"""Front matter: the YAML between two `---` lines at the beginning of a Markdown document."""

from __future__ import annotations

import re

from autolab.errors import RecordError

_FORM = re.compile(r"---[ \t]*\r?\n(?P<yaml>.*?^)---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)


def front_matter(text: str, file: str) -> str:
    """The YAML of a document. An empty line stands for the first `---`: line numbers are those of the document.

    RecordError: the document does not begin with front matter. Lines may end in LF or CRLF.
    """
    yaml, _ = split(text, file)
    return yaml


def split(text: str, file: str) -> tuple[str, str]:
    """The YAML as `front_matter` gives it, and the Markdown after it. RecordError as there."""
    match = _FORM.match(text)
    if match is None:
        raise RecordError(f"{file}: line 1: no front matter; begin with a line `---` and end the YAML with another")
    # The empty line is the first `---`.
    return "\n" + match["yaml"], text[match.end() :]
