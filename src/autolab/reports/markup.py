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
    if text.count("[") > MANY_BRACKETS:
        return Markdown("\n".join(_fenced(text, "")))
    tokens = _parser().parse(text)
    if any(token.level >= DEEPEST - 2 for token in tokens):
        return Markdown("\n".join(_fenced(text, "")))
    from markdown_it.tree import SyntaxTreeNode

    return Markdown("\n".join(_Writer(headings).blocks(SyntaxTreeNode(tokens).children)))


def sentence(text: str, limit: int) -> Markdown:
    """Text as one line of harmless Markdown, of at most `limit` characters before it is escaped."""
    line = one_line(text, limit)
    markdown = inert(line)
    return plain(line) if "\n" in markdown else markdown


def plain(text: str) -> Markdown:
    """One line of Markdown that shows exactly these characters."""
    return Markdown(_line_start(_escaped(one_line(text))))


def code(text: str) -> Markdown:
    """One line as a code span, whatever backticks it holds."""
    line = one_line(text)
    ticks = "`" * _longer_than(line, 0)
    pad = " " if not line or line[0] in "` " or line[-1] in "` " else ""
    return Markdown(f"{ticks}{pad}{line}{pad}{ticks}")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Markdown:
    """A table. A cell that is not `Markdown` is escaped."""
    lines = [header, ["---"] * len(header)]
    for row in rows:
        lines.append([cell if isinstance(cell, Markdown) else plain(cell) for cell in row])
    return Markdown("\n".join(f"| {' | '.join(map(in_cell, line))} |" for line in lines))


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
            case "fence" | "code_block":
                return _fenced(node.content, node.info if node.type == "fence" else "")
            case "table":
                return self._table(node)
            case "hr":
                return ["* * *"]
        return [plain(node.content)] if node.content else []

    def _paragraph(self, node: SyntaxTreeNode) -> list[str]:
        return [line for line in _joined(_pieces(node.children)).split("\n") if line.strip()]

    def _heading(self, node: SyntaxTreeNode) -> list[str]:
        text = " ".join(self._paragraph(node))
        if not text:
            return []
        if self._headings:
            return [f"{'#' * int(node.tag[1])} {text}"]
        return [f"**{text.replace('**', '')}**"]

    def _list(self, node: SyntaxTreeNode) -> list[str]:
        lines: list[str] = []
        number = int(node.attrs.get("start", 1))
        for offset, item in enumerate(node.children):
            marker = "- " if node.type == "bullet_list" else f"{min(number + offset, 999_999_999)}. "
            inner = self.blocks(item.children) or [""]
            lines.append((marker + inner[0]).rstrip())
            lines += [(" " * len(marker) + line).rstrip() for line in inner[1:]]
        return lines

    def _table(self, node: SyntaxTreeNode) -> list[str]:
        rows = [row.children for part in node.children for row in part.children]
        cells = [[self._cell(cell) for cell in row] for row in rows]
        head, *body = [f"| {' | '.join(row)} |" for row in cells]
        return [head, f"|{' --- |' * len(cells[0])}", *body]

    def _cell(self, node: SyntaxTreeNode) -> str:
        return in_cell(" ".join(self._paragraph(node)))


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
            case "em" | "strong":
                mark = "*" if node.type == "em" else "**"
                pieces += [("mark", mark), *_pieces(node.children), ("mark", mark)]
            case "link":
                pieces += _link(node)
            case "image":
                text = "".join(content for _, content in _pieces(node.children)) or "a picture"
                pieces += [("text", f"{text} (picture: "), ("code", str(node.attrs["src"])), ("text", ")")]
            case _:
                pieces.append(("text", node.content))
    return pieces


def _link(node: SyntaxTreeNode) -> list[_Piece]:
    """The text of a link, then its address as code; the address alone if they are equal."""
    address = str(node.attrs["href"])
    inner = _pieces(node.children)
    if "".join(content for _, content in inner) in (address, address.removeprefix("mailto:")):
        return [("code", address)]
    return [*inner, ("text", " ("), ("code", address), ("text", ")")]


def _joined(pieces: Sequence[_Piece]) -> str:
    """Lines of Markdown. Neighbouring texts are joined first, because an address may lie across both."""
    merged: list[_Piece] = []
    for kind, content in pieces:
        if kind == "text" and merged and merged[-1][0] == "text":
            merged[-1] = "text", merged[-1][1] + content
        else:
            merged.append((kind, content))
    lines = [""]
    for kind, content in merged:
        if kind == "break":
            lines.append("")
        elif kind == "code":
            lines[-1] = _with_code(lines[-1], content)
        elif kind == "mark":
            lines[-1] += content
        else:
            text = _escaped(content if lines[-1] else content.lstrip())
            lines[-1] += text if lines[-1] else _line_start(text)
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
    return _NUMBERED.sub(r"\1\\\2", line, count=1) if _NUMBERED.match(line) else line


def _fenced(text: str, info: str) -> list[str]:
    """The lines of a block of code that its text cannot close."""
    # Code keeps all its lines but the one that would unlock frozen files if the document is the user's journal.
    text = _META_MODE.sub(r" \1", text.removesuffix("\n"))
    language = info.strip().split(" ")[0].lower()
    fence = "`" * _longer_than(text, 2)
    return [fence + (language if language in LANGUAGES else ""), *text.split("\n"), fence]


def _longer_than(text: str, least: int) -> int:
    """A number of backticks that the text does not hold in a row, above `least`."""
    return 1 + max([least, *(len(run) for run in re.findall("`+", text))])
