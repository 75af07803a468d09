"""Markdown of others loads nothing, leads nowhere, closes what it opens, and keeps its words."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from text_kit import DOOR, TEXTS, headings, sound

from autolab.reports.markup import DEEPEST, code, in_cell, inert, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words, 0.1 < 0.2 and a_b", "plain words, 0.1 < 0.2 and a_b"),
        ("*soft* and **hard** and `code`", "*soft* and **hard** and `code`"),
        ("gain [0.1, 0.2] of val_loss", "gain [0.1, 0.2] of val_loss"),
        ("[paper](http://e.x/a)", "paper (`http://e.x/a`)"),
        ("[notes](../notes.md)", "notes (`../notes.md`)"),
        ("![plot](http://e.x/p.png)", "plot (picture: `http://e.x/p.png`)"),
        ("![](figures/p.png)", "a picture (picture: `figures/p.png`)"),
        ("<http://e.x/a>", "`http://e.x/a`"),
        ("see http://e.x/a_b).", "see `http://e.x/a_b`)."),
        ("www.e.x or me@e.xy", "`www.e.x` or `me@e.xy`"),
        ("[a](javascript:alert(1))", "[a\\](javascript:alert(1))"),
        ("[a][b]\n\n[b]: http://e.x", "[a\\][b\\]\n\n[b\\]: `http://e.x`"),
        ("x[^1]\n\n[^1]: ![p](q)", "x[^1\\]\n\n[^1\\]: p (picture: `q`)"),
        ("<img src=x onerror=y>", "\\<img src=x onerror=y>"),
        ("<script>a</script>", "\\<script>a\\</script>"),
        ("&lt;img src=x&gt;", "\\<img src=x>"),
        ("# Kept", "**Kept**"),
        ("Kept\n====", "**Kept**"),
        ("---\nkey: 1\n---", "* * *\n\n**key: 1**"),
        ("META_MODE=1", "META\\_MODE=1"),
        ("```\nMETA_MODE=1\n```", "```\n META_MODE=1\n```"),
        ("```py\nx = '`' # ![a](b)\n", "```py\nx = '`' # ![a](b)\n```"),
        ("```mermaid\na\n```", "```\na\n```"),
        ("~~~\n```\n~~~", "````\n```\n````"),
        ("    indented", "```\nindented\n```"),
        ("a|b\n-|-\n`x\\|y`|2", "| a | b |\n| --- | --- |\n| `x\\|y` | 2 |"),
        ("a|b\n-|-\n`![x](http://e.x)|`|2", "| a | b |\n| --- | --- |\n| \\`x (picture: `http://e.x`) | \\` |"),
        ("- a\n- b\n  - c", "- a\n- b\n\n  - c"),
        ("3. a\n4. b", "3. a\n4. b"),
        ("\\# no heading", "\\# no heading"),
        ("> said\n> so", "> said\n> so"),
        ("`a``![x](http://e.x)`", "```a``![x](http://e.x)```"),
    ],
)
def test_what_is_written_of_what_was_meant(text: str, shown: str) -> None:
    assert inert(text) == shown


def test_headings_stay_in_a_document_without_others() -> None:
    assert inert("# A\n\nb\n-", headings=True) == "# A\n\n## b"


@DOOR
@given(TEXTS)
def test_nothing_loads_or_leads_anywhere_and_the_documents_own_headings_are_all(text: str) -> None:
    shown = sound(inert(text), lines=True)
    assert headings(f"# Top\n\n{shown}\n\n## Next\n\nend\n") == ["Top", "Next"]
    assert headings(f"- in a list\n\n{shown}\n\n## Next\n") == ["Next"]
    assert "META_MODE=1" not in shown.split("\n") and "---" not in shown.split("\n")
    headings(inert(text, headings=True))


@DOOR
@given(TEXTS)
def test_a_line_stays_one_wherever_it_stands(text: str) -> None:
    line = sound(plain(text))
    assert headings(f"{line}\n\n- {line}\n\n> {line}\n\n**x**: {line}\n\n## {line} end\n") == [f"{line} end".strip()]
    table = f"| a | b |\n| --- | --- |\n| {in_cell(line)} | {in_cell(code(text))} |\n\n## Next\n"
    assert headings(table) == ["Next"]
    assert headings(f"x {sound(code(text))} y\n\n{code(text)}\n\n## Next\n") == ["Next"]


def test_what_lies_too_deep_is_shown_as_code_and_not_dropped() -> None:
    for text in ("> " * (2 * DEEPEST) + "deep", "- " * (2 * DEEPEST) + "deep"):
        assert inert(text) == f"```\n{text}\n```"


@pytest.mark.parametrize("part", ["[", "![", "*a ", "`", "<", "\\", "_*", "> - ", "a\n", "[a](", "|a", "&", "\n- "])
def test_no_text_takes_long(part: str) -> None:
    text = (part * 20_000)[:20_000]
    began = time.process_time()
    inert(text)
    assert time.process_time() - began < 5, "a quarter of a second on the machine it was written on"
