"""The documents' templates: Jinja2 files in `documents/`, filled with values that cannot become markup.

A template holds the layout and the fixed words of one document. Every value that it inserts is escaped, unless the
value is `Markdown`. The filters make Markdown of text that others wrote: `inert` keeps paragraphs and lists, `prose`
too but shortens, `sentence` makes one line, `code` and `json` quote. A name that does not exist is an error,
not an empty text.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING

from autolab.reports.markup import Markdown, code, inert, markdown_of, sentence
from autolab.reports.rounding import duration
from autolab.text import many_lines

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("documents")
PROSE = 5_000
"""Characters that a document quotes of one answer of a researcher."""
SENTENCE = 400
"""Characters that a line of a document quotes of one."""


def render(document: str, **values: object) -> str:
    """The text of `documents/<document>.md.j2` with these values; it ends in one line break."""
    return _environment().get_template(f"{document}.md.j2").render(values).strip("\n") + "\n"


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # That is for HTML. `finalize` escapes Markdown.
        autoescape=False,
        finalize=markdown_of,
    )
    # Filters for the texts that others wrote.
    environment.filters |= {
        "inert": inert,
        "prose": _prose,
        "sentence": _sentence,
        "code": code,
        "json": _json,
        "duration": duration,
    }
    return environment


def _json(value: object) -> Markdown:
    return code(json.dumps(value, sort_keys=True, ensure_ascii=False))


def _prose(text: str) -> Markdown:
    return inert(many_lines(text.strip(), PROSE))


def _sentence(text: str) -> Markdown:
    return sentence(text, SENTENCE)
