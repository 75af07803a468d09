"""Text that somebody else wrote, as harmless Markdown for the documents of the lab.

`inert` parses a text as CommonMark with tables (markdown-it-py) and writes it again from the parse: paragraphs, lists,
quotes, tables, emphasis and code stay. A link or an image becomes its text with its address as code, an address in the
text becomes code, raw HTML becomes text, a heading becomes a line in bold. So nothing in it loads or leads anywhere,
every block that it opens is closed, and no line of it can pass for the document's own heading, front matter or marker.
`plain` escapes one line, so that it has no markup at all; `code` quotes one line as code.

Not covered: text that the lab's users write, and viewers that turn bare names (`example.org`) into links. If lists or
quotes are nested deeper than the parser follows, the whole text is shown as code, so that nothing is lost.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from autolab.text import many_lines, one_line

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode


DEEPEST = 20
"""Blocks in one another that the parser follows; what lies deeper it leaves out."""
MANY_BRACKETS = 2_000
"""Opening brackets of a text: the parser's time grows with their square."""
_SCRIPTS = ("bash", "console", "diff", "javascript", "py", "python", "r", "sh", "shell", "sql")
_TEXTS = ("c", "cpp", "css", "html", "ini", "json", "rust", "text", "toml", "txt", "xml", "yaml", "yml")
LANGUAGES = frozenset((*_SCRIPTS, *_TEXTS))
"""What may follow a fence: viewers draw some others (mermaid, geojson, math) instead of showing them."""

# A scheme or www. anywhere but within a word, as GitHub makes links of them; and an address for mail.
_ADDRESS = re.compile(
    r"(?<![A-Za-z])(?:[A-Za-z][A-Za-z0-9+.-]{0,31}://|[Ww]{3}\.)[^\s`]+|[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"
)
_AFTER_ADDRESS = ".,;:!?)]}>'\"*_~"
_PUNCTUATION = re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_MARKUP = re.compile(
    rf"""
      [`*]                                # code, emphasis
    | \\(?=[{_PUNCTUATION}]|$)            # a backslash that would hide what follows
    | (?<![^\W_])_ | _(?![^\W_])          # emphasis; a_b_c has none
    | <(?=[A-Za-z/!?]|$)                  # HTML, an address in angle brackets
    | &(?=[A-Za-z#][A-Za-z0-9]{{0,40}};)  # an entity
    | \](?=[(\[:]|$)                      # the end of a link's text, or of a name that is defined
    """,
    re.VERBOSE,
)
_LINE_START = re.compile(
    r"""
      (?=>)                               # a quote
    | (?=\#{1,6}(?:\s|$))                 # a heading
    | (?=[-+](?:\s|$))                    # a list
    | (?=~~~)                             # code
    | (?=[-=|:][-=|:\s]*$)                # a line under a heading or a table's head, a rule, front matter
    """,
    re.VERBOSE,
)
_NUMBERED = re.compile(r"(\d{1,9})([.)])(?=\s|$)")
_META_MODE = re.compile(r"(?m)^(META_MODE=1\r?)$")


class Markdown(str):
    """Finished Markdown. Templates insert it as it is; they escape every other value."""

    __slots__ = ()


def inert(text: str, *, headings: bool = False) -> Markdown:
    """Text of many lines as harmless Markdown. `headings` keeps its headings, for a document that has no others."""
    text = many_lines(text)
    # Counted before the text is parsed, since the parser is what they would keep busy.
    if text.count("[") > MANY_BRACKETS:
        return Markdown("\n".join(_fenced(text)))
    tokens = _parser().parse(text)
    # The parser drops what lies deeper without a word.
    if any(token.level >= DEEPEST - 2 for token in tokens):
        return Markdown("\n".join(_fenced(text)))
    from markdown_it.tree import SyntaxTreeNode

    return Markdown("\n".join(_Writer(headings).blocks(SyntaxTreeNode(tokens).children)))


def sentence(text: str, limit: int) -> Markdown:
    """Text as one line of harmless Markdown, of at most `limit` characters before it is escaped."""
    line = one_line(text, limit)
    markdown = inert(line)
    # One line can still be a block of several: a list item with code in it.
    if "\n" in markdown:
        return plain(line)
    return markdown


def plain(text: str) -> Markdown:
    """One line of Markdown that shows exactly these characters."""
    return Markdown(_line_start(_escaped(one_line(text))))


def code(text: str) -> Markdown:
    """One line as a code span, whatever backticks it holds."""
    line = one_line(text)
    ticks = "`" * _longer_than(line, 0)
    # A viewer takes one space off both ends, so that a backtick at an end does not join the others.
    if line[:1] in "` " or line[-1:] in "` ":
        line = f" {line} "
    return Markdown(f"{ticks}{line}{ticks}")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Markdown:
    """A table. A cell that is not `Markdown` is escaped."""
    lines = [_row(header), _row(["---"] * len(header))]
    for row in rows:
        lines.append(_row(map(markdown_of, row)))
    return Markdown("\n".join(lines))


def markdown_of(value: object) -> Markdown:
    """A finished text as it is, any other value as one escaped line."""
    if isinstance(value, Markdown):
        return value
    return plain(str(value))


@functools.cache
def _parser() -> MarkdownIt:
    """CommonMark with tables, without raw HTML, and without names for addresses: `[a]: b` stays text."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": DEEPEST})
    return parser.enable("table").disable(["reference", "html_block", "html_inline"])


class _Writer:
    """Writes the parsed blocks; each block is a list of lines without the prefix of what it stands in."""

    def __init__(self, headings: bool) -> None:
        self._headings = headings

    def blocks(self, nodes: Iterable[SyntaxTreeNode]) -> list[str]:
        lines: list[str] = []
        for node in nodes:
            block = self._block(node)
            if lines and block:
                lines.append("")
            lines += block
        return lines

    def _block(self, node: SyntaxTreeNode) -> list[str]:
        match node.type:
            case "paragraph":
                return self._paragraph(node)
            case "heading":
                return self._heading(node)
            case "bullet_list" | "ordered_list":
                return self._list(node)
            case "blockquote":
                return [f"> {line}".rstrip() for line in self.blocks(node.children)]
            case "fence":
                return _fenced(node.content, node.info)
            case "code_block":
                return _fenced(node.content)
            case "table":
                return self._table(node)
            case "hr":
                return ["* * *"]
        # A kind of block that is not known here is shown as its text, so that nothing is lost.
        if node.content:
            return [plain(node.content)]
        return []

    def _paragraph(self, node: SyntaxTreeNode) -> list[str]:
        return [line for line in _joined(_pieces(node.children)).split("\n") if line.strip()]

    def _heading(self, node: SyntaxTreeNode) -> list[str]:
        text = " ".join(self._paragraph(node))
        if not text:
            return []
        if self._headings:
            level = int(node.tag[1])
            return [f"{'#' * level} {text}"]
        # Bold inside of bold would end it.
        return [f"**{text.replace('**', '')}**"]

    def _list(self, node: SyntaxTreeNode) -> list[str]:
        lines: list[str] = []
        number = int(node.attrs.get("start", 1))
        for item in node.children:
            marker = "- "
            if node.type == "ordered_list":
                # CommonMark takes nine digits at most; a longer number would be no list.
                marker = f"{min(number, 999_999_999)}. "
                number += 1
            first, *others = self.blocks(item.children) or [""]
            lines.append((marker + first).rstrip())
            indent = " " * len(marker)
            for line in others:
                lines.append((indent + line).rstrip())
        return lines

    def _table(self, node: SyntaxTreeNode) -> list[str]:
        lines: list[str] = []
        for part in node.children:
            for row in part.children:
                lines.append(_row(" ".join(self._paragraph(cell)) for cell in row.children))
                if len(lines) == 1:
                    lines.append(_row(["---"] * len(row.children)))
        return lines


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(in_cell, cells))} |"


def in_cell(text: str) -> str:
    """One line of Markdown as a cell of a table: a bar would end the cell, even inside code."""
    return text.replace("|", "\\|")


_Piece = tuple[str, str]
"""What an inline element becomes: `text` (escaped, but for the beginning of a line), `code`, `mark` or `break`."""


def _pieces(nodes: Sequence[SyntaxTreeNode]) -> list[_Piece]:
    pieces: list[_Piece] = []
    for node in nodes:
        match node.type:
            case "inline":
                pieces += _pieces(node.children)
            case "text" | "text_special":
                pieces.append(("text", node.content))
            case "softbreak" | "hardbreak":
                pieces.append(("break", "\n"))
            case "code_inline":
                pieces.append(("code", node.content))
            case "em":
                pieces += [("mark", "*"), *_pieces(node.children), ("mark", "*")]
            case "strong":
                pieces += [("mark", "**"), *_pieces(node.children), ("mark", "**")]
            case "link":
                pieces += _link(node)
            case "image":
                # A picture that loads tells its server who reads the document.
                text = _content(_pieces(node.children)) or "a picture"
                pieces += [("text", f"{text} (picture: "), ("code", str(node.attrs["src"])), ("text", ")")]
            case _:
                pieces.append(("text", node.content))
    return pieces


def _link(node: SyntaxTreeNode) -> list[_Piece]:
    """The text of a link, then its address as code; the address alone if they are equal."""
    address = str(node.attrs["href"])
    inner = _pieces(node.children)
    if _content(inner) in (address, address.removeprefix("mailto:")):
        return [("code", address)]
    return [*inner, ("text", " ("), ("code", address), ("text", ")")]


def _content(pieces: Iterable[_Piece]) -> str:
    return "".join(content for _, content in pieces)


def _joined(pieces: Sequence[_Piece]) -> str:
    """Lines of Markdown. Neighbouring texts are joined first, because an address may lie across both."""
    merged: list[_Piece] = []
    for kind, content in pieces:
        if kind == "text" and merged and merged[-1][0] == "text":
            _, before = merged.pop()
            content = before + content
        merged.append((kind, content))
    lines = [""]
    for kind, content in merged:
        if kind == "break":
            lines.append("")
        elif kind == "code":
            lines[-1] = _with_code(lines[-1], content)
        elif kind == "mark":
            lines[-1] += content
        elif lines[-1]:
            lines[-1] += _escaped(content)
        else:
            lines[-1] = _line_start(_escaped(content.lstrip()))
    return "\n".join(line.rstrip() for line in lines)


def _with_code(before: str, content: str) -> str:
    """A code span behind a text, with a space between two backticks, which would open and close each other."""
    space = " " if before.endswith("`") else ""
    return f"{before}{space}{code(content)}"


def _escaped(text: str) -> str:
    """Text with its markup escaped, except for the beginning of the line, and with its addresses as code."""
    escaped, end = "", 0
    for match in _ADDRESS.finditer(text):
        address = match[0].rstrip(_AFTER_ADDRESS)
        escaped = _with_code(escaped + _MARKUP.sub(r"\\\g<0>", text[end : match.start()]), address)
        end = match.start() + len(address)
    return escaped + _MARKUP.sub(r"\\\g<0>", text[end:])


def _line_start(line: str) -> str:
    """The line, escaped if it would begin a heading, list, quote, rule, table or code, or unlock frozen files."""
    if _META_MODE.match(line):
        return line.replace("_", "\\_", 1)
    if _LINE_START.match(line):
        return f"\\{line}"
    if _NUMBERED.match(line):
        return _NUMBERED.sub(r"\1\\\2", line, count=1)
    return line


def _fenced(text: str, info: str = "") -> list[str]:
    """The lines of a block of code that its text cannot close."""
    # Code keeps all its lines but the one that would unlock frozen files if the document is the user's journal.
    text = _META_MODE.sub(r" \1", text.removesuffix("\n"))
    language = info.strip().split(" ")[0].lower()
    if language not in LANGUAGES:
        language = ""
    fence = "`" * _longer_than(text, 2)
    return [fence + language, *text.split("\n"), fence]


def _longer_than(text: str, least: int) -> int:
    """A number of backticks that the text does not hold in a row, above `least`."""
    return 1 + max([least, *map(len, re.findall("`+", text))])
