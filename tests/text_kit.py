"""Texts as nobody should write them, for the tests of every door through which text comes in."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

DOOR = settings(max_examples=200)
FRAGMENTS = (
    *("\ud83d", "\udc80", "\\ud83d", "\\udc80", "\\u", "\\", "\u2028", "\u2029", "\x85", "\x1c", "\x0b", "\x0c"),
    *(
        "\x00",
        "\x1b[31m",
        "\x7f",
        "\x9b",
        "\u202e",
        "\u200b",
        "\ufeff",
        "\ufffe",
        "\U000e0041",
        "\r",
        "\n",
        "\n\n",
        "\t",
    ),
    *("<img src=http://e.x/a.png>", "<script>alert(1)</script>", "<b", "-->", "<!-- autolab:x -->", "<http://e.x>"),
    *("![a](http://e.x/p.png)", "![a][b]", "[a](http://e.x 'b')", "[a]", "\n[a]: http://e.x\n", "[^1]", "\n[^1]: b\n"),
    *("(javascript:alert(1))", "](", "![", "&lt;img&gt;", "&#60;", "http://e.x/y", "www.e.x", "_http://e.x", "a@e.xy"),
    *("`", "``", "```", "\n```\n", "\n~~~ mermaid\n", "\n# ", "\n## 2026-01-01 · h9: kept\n", "\n===\n", "\n---\n"),
    *("|", "\n|-|-|\n", "\na|b\n-|-\n", "*", "**", "_", "a_b", "\n- ", "\n1. ", "\n> ", "\n    ", "\nMETA_MODE=1\n"),
    *(
        "é",
        "😀",
        "0.1 < 0.2",
        "val_loss",
        '"',
        "'",
        "{",
        "}",
        "{{goal}}",
        "%s",
        "$x$",
        ":",
        "/",
        "..",
        "word ",
        "x" * 3000,
    ),
)
TEXTS = st.one_of(st.text(st.characters(), max_size=60), st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))
BYTES = st.one_of(st.binary(max_size=80), TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")

_READER = MarkdownIt("commonmark", {"html": True, "maxNesting": 100}).enable(["table", "strikethrough"])
_OWN_LINK = re.compile(
    r"!?\[([^\]\n]*)\]\(((?:\.\./|experiments/[^)/]*/)*(?:runs|analysis|design|FINDINGS|arms|tables)[^)\n]*)\)"
)
_ACTIVE = {"html_block", "html_inline", "image", "link_open"}
_ADDRESS = re.compile(r"(?<![A-Za-z])(?:[A-Za-z][A-Za-z0-9+.-]*://|www\.)\S", re.I)


def sound(text: str, *, lines: bool = False) -> str:
    """The text, after a look at it: UTF-8 holds it, nothing in it is unseen, and it is one line unless `lines`."""
    assert (text.encode() and not UNSEEN.search(text)) or not text
    assert lines or "\n" not in text
    return text


def headings(document: str) -> list[str]:
    """The headings of a Markdown document, after a look at it: nothing but the engine's own links leads anywhere."""
    tokens = _READER.parse(_OWN_LINK.sub(r"\1", document))
    inner = [token for block in tokens for token in (block, *(block.children or ()))]
    assert not _ACTIVE & {token.type for token in inner}, document
    assert not [token.content for token in inner if token.type == "text" and _ADDRESS.search(token.content)], document
    return [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
