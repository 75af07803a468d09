"""The one sink for secrets: what text leaves the engine (record, transcripts, logs, messages) goes through here first.

Found are exact values (of the engine's environment variables with telling names, and registered ones; also as base64,
URL-quoted and JSON-escaped) and shapes of well-known keys. `[redacted:NAME]` takes their place. Not found: values of
fewer than `SHORTEST` bytes, other encodings, and what is longer than `HOLD` bytes. Standard library only.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

SHORTEST = 8
HOLD = 32 * 1024
"""Bytes that a stream keeps back at most; longer only where an exact value is."""
BLOCK = 1 << 20

_TELLING = re.compile(
    r"(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY)S?(?![A-Z])"
    r"|(?:^|_)(?:KEY|AUTH|PAT)(?:_\d+)?$"
)
_NO_SECRET = re.compile(r"_(?:FILE|PATH|DIR|FOLDER|SOCK|URL|URI)$")
_registered: dict[str, str] = {}


@dataclass(frozen=True)
class _Spelling:
    """An exact value as it may be written. Base64 ends in a sign that holds the last bits only, and in padding."""

    raw: bytes
    name: str
    encoded: bool = False


@dataclass(frozen=True)
class _Shape:
    """A kind of key. One of `hints` is in every match, in lower case; a group, if there is one, is the secret."""

    name: str
    hints: tuple[bytes, ...]
    pattern: re.Pattern[bytes]


_FOLLOWS = rb"""["'\\]{0,2}\s{0,4}(?::|=|,|\bis\b)\s{0,4}["'\\]{0,2}"""
_SHAPES = tuple(
    _Shape(name, hints, re.compile(pattern))
    for name, hints, pattern in (
        ("anthropic key", (b"sk-ant-",), rb"(?<![A-Za-z0-9])sk-ant-[\w-]{16,2000}"),
        (
            "openai key",
            (b"sk-",),
            rb"(?<![A-Za-z0-9])sk-(?!ant-)(?:(?:[A-Za-z0-9]{1,12}-){0,3}[A-Za-z0-9]{20,500}"
            rb"|(?=[\w-]{0,200}[0-9])(?=[\w-]{0,200}[A-Z])[\w-]{24,500})[\w-]{0,1500}",
        ),
        ("github token", (b"gh",), rb"(?<![A-Za-z0-9])gh[oprsu]_[A-Za-z0-9]{30,255}"),
        ("github token", (b"github_pat_",), rb"(?<![A-Za-z0-9])github_pat_[A-Za-z0-9_]{22,255}"),
        ("hugging face token", (b"hf_",), rb"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,255}"),
        ("aws key id", (b"akia", b"asia"), rb"(?<![A-Za-z0-9])A(?:KIA|SIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
        (
            "aws secret",
            (b"aws",),
            rb"(?i:aws_?secret(?:_?access)?_?key)" + _FOLLOWS + rb"([A-Za-z0-9/+]{40})(?![\w/+])",
        ),
        ("google key", (b"aiza", b"gocspx-", b"ya29."), rb"AIza[\w-]{35}|GOCSPX-[\w-]{20,255}|ya29\.[\w-]{20,2000}"),
        ("slack token", (b"xox", b"xapp-"), rb"(?<![A-Za-z0-9])x(?:ox[a-z]|app)-[A-Za-z0-9-]{10,500}"),
        ("slack hook", (b"hooks.slack.com",), rb"hooks\.slack\.com\\?/services\\?/([\w/\\]{20,200})"),
        (
            "wandb key",
            (b"wandb", b"apikey", b"api_key", b"api-key", b"api key"),
            rb"(?i:(?:wandb|(?:wandb_?)?api[_ -]?key)" + _FOLLOWS + rb"|wandb[_ ](?:login|key|token)[\s=:]{1,4}"
            rb"|wandb[^\n]{1,80}\bpassword\s)[\"'\s]{0,4}([0-9a-f]{40})(?![0-9A-Za-z])",
        ),
        ("wandb key", (b"wandb_v1_",), rb"wandb_v1_\w{20,255}"),
        ("jwt", (b"eyj",), rb"(?<![\w-])eyJ[\w-]{10,8000}\.[\w-]{10,8000}\.[\w-]{5,4000}(?:\.[\w-]{1,4000}){0,2}"),
        (
            "private key",
            (b"private key",),
            rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:[^\"]{1,16384}?-----END [A-Z0-9 ]{1,40}-----"
            rb"|(?:(?:\s|\\[nrt]){0,8}[A-Za-z0-9+/=]{16,16384}){0,400})",
        ),
        ("password", (b":/", b":\\/"), rb":(?:\\?/){2}[^\s/@:\"'<>\[\]]{0,100}:([^\s/@\"'<>\[\]]{1,500})@"),
        ("password", (b":/", b":\\/"), rb":(?:\\?/){2}([^\s/@:\"'<>\[\]]{16,500})@"),
        (
            "authorization",
            (b"authorization",),
            rb"(?i:authorization)" + _FOLLOWS + rb"(?i:bearer|basic|token)\s{1,4}([^\s\"'\\,;\[\]]{6,4000})",
        ),
        ("authorization", (b"bearer",), rb"(?i:\bbearer)\s{1,4}(?=\S{0,200}[0-9])([A-Za-z0-9._~+/=-]{16,4000})"),
        ("api key", (b"api-key",), rb"(?i:x-(?:[a-z]{1,12}-)?api-key)" + _FOLLOWS + rb"([\w.-]{16,500})"),
    )
)
_BEGUN = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}")
_TOLD = re.compile(rb"(?i:authorization|bearer|basic|token|wandb|key|login|password)[^\n]{0,160}\Z")


def register(name: str, value: str) -> None:
    """From now on `value` is a secret that is shown as `[redacted:name]`; for keys that are in no telling variable."""
    _registered[name] = value
    _spellings.cache_clear()


def clean(text: str) -> str:
    """The text with secrets replaced; the very same where there are none."""
    if len(text) < SHORTEST:
        return text
    data = text.encode("utf-8", "surrogatepass")
    found = _spans(data)
    return _replaced(data, found).decode("utf-8", "surrogatepass") if found else text


def clean_value(value: Any) -> Any:
    """A JSON value with every text in it clean, keys too."""
    texts: list[str] = []
    found = _gathered(value, texts)
    # All texts at once first: what is a secret in one of them is one among the others too, a line each.
    return _cleaned(found) if _spans("\n".join(texts).encode("utf-8", "surrogatepass")) else found


def _gathered(value: Any, texts: list[str], key: str = "") -> Any:
    """The value with its tuples as lists; its texts go to `texts`, each behind its key."""
    if isinstance(value, dict):
        return {name: _gathered(one, texts, name) for name, one in value.items()}
    if key or isinstance(value, str):
        texts.append(f"{key}: {value}" if isinstance(value, str) else key)
    return [_gathered(one, texts) for one in value] if isinstance(value, list | tuple) else value


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _named(key, one) for key, one in value.items()}
    return [_cleaned(one) for one in value] if isinstance(value, list) else value


def _named(key: str, value: Any) -> Any:
    """A value whose key may be the word that tells what it is."""
    if not isinstance(value, str) or len(value) < SHORTEST:
        return _cleaned(value)
    head, both = f"{clean(key)}: ", clean(f"{key}: {value}")
    return both.removeprefix(head) if both.startswith(head) and both != head + value else clean(value)


def clean_json(text: str) -> str:
    """A text that should be JSON: clean as it is written and as it reads, however its signs are escaped.

    Written anew only where that finds something; what is no JSON is clean as a text.
    """
    try:
        value = json.loads(text)
        shown = clean_value(value)
    except (ValueError, RecursionError):
        return clean(text)
    if shown == value:
        return clean(text)
    # Half a character, which no file can hold, stays the escape that it came as.
    return clean(json.dumps(shown, ensure_ascii=False).encode("utf-8", errors="backslashreplace").decode())


def clean_file(path: Path) -> bool:
    """Replace a regular file by its clean copy, atomically and with its mode; False, and untouched, if it was clean.

    Read in blocks. Nothing else may write it meanwhile.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or not any(True for _ in _streamed(path, found_only=True)):
        return False
    partial = path.with_name(f".{path.name[:200]}.autolab-clean")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.writelines(_streamed(path))
        file.flush()
        os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
        os.fsync(file.fileno())
    os.replace(partial, path)
    return True


def _streamed(path: Path, *, found_only: bool = False) -> Iterator[bytes]:
    """The clean content block by block, or only the blocks in which something was found."""
    stream = Stream()
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        while block := file.read(BLOCK):
            out = stream.feed(block)
            if not found_only or stream.found:
                yield out
    out = stream.finish()
    if not found_only or stream.found:
        yield out


class Stream:
    """Bytes that come in pieces: a secret is found wherever it is cut.

    Kept back is what a secret may have begun in: the last word, the line since a telling word, an open key block; at
    most `HOLD` bytes, or the longest exact value. `found` counts what was replaced.
    """

    def __init__(self) -> None:
        self._held = b""
        self.found = 0

    def feed(self, block: bytes) -> bytes:
        """What is certain after `block`, clean."""
        self._held += block
        found = _spans(self._held)
        return self._give(_cut(self._held, found), found)

    def finish(self) -> bytes:
        """The rest, clean."""
        return self._give(len(self._held), _spans(self._held))

    def _give(self, cut: int, found: list[tuple[int, int, str]]) -> bytes:
        given = [span for span in found if span[1] <= cut]
        out, self._held = _replaced(self._held[:cut], given), self._held[cut:]
        self.found += len(given)
        return out


def _cut(held: bytes, found: list[tuple[int, int, str]]) -> int:
    """How much may leave: no secret that is there, or may still become one, lies across this place."""
    cut, told = _open_block(held, found), _TOLD.search(held, max(0, len(held) - 200))
    longest = HOLD
    if told:
        cut = min(cut, told.start())
    for spelling in _spellings():
        longest = max(longest, len(spelling.raw))
        if len(spelling.raw.split()) > 1:
            cut = min(cut, len(held) - _overlap(held, spelling.raw))
    cut = _word_start(held, cut)
    whole = [(start, stop) for start, stop, _ in found] + list(_matches(held))
    while across := [start for start, stop in whole if start < cut < stop]:
        cut = _word_start(held, min(across))
    forced = len(held) - longest
    return cut if cut >= forced else next((stop for start, stop, _ in found if start < forced < stop), forced)


def _word_start(held: bytes, place: int) -> int:
    """Where the word begins that `place` is in or at the end of."""
    return max(held.rfind(sign, 0, place) for sign in (b" ", b"\n", b"\t", b"\r")) + 1


def _open_block(held: bytes, found: list[tuple[int, int, str]]) -> int:
    """Where a key block begins whose end has not come; the end of `held` where there is none."""
    for begun in _BEGUN.finditer(held):
        ended = any(start <= begun.start() < stop and b"-----END" in held[start:stop] for start, stop, _ in found)
        if not ended and (b"PRIVATE KEY" in begun[0] or begun.end() == len(held)):
            return begun.start()
    return len(held)


def _overlap(held: bytes, spelling: bytes) -> int:
    """Length of the longest end of `held` that `spelling` begins with."""
    lengths = range(min(len(held), len(spelling)), 0, -1)
    return next((length for length in lengths if held.endswith(spelling[:length])), 0)


def _replaced(data: bytes, found: list[tuple[int, int, str]]) -> bytes:
    out, at = bytearray(), 0
    for start, stop, name in found:
        out += data[at:start] + f"[redacted:{name}]".encode()
        at = stop
    return bytes(out + data[at:])


def _spans(data: bytes) -> list[tuple[int, int, str]]:
    """Where the secrets are: (start, stop, name), in order and apart. An exact value gives its name before a shape."""
    found = [(start, 0, stop, name) for start, stop, name in _exact(data)]
    low = data.lower()
    for shape in _SHAPES:
        if any(hint in low for hint in shape.hints):
            spans = (match.span(shape.pattern.groups) for match in shape.pattern.finditer(data))
            found += [(start, 1, stop, shape.name) for start, stop in spans]
    apart: list[tuple[int, int, str]] = []
    for start, _, stop, name in sorted(found):
        if apart and start < apart[-1][1]:
            begin, end, first = apart[-1]
            apart[-1] = (begin, max(end, stop), first)
        else:
            apart.append((start, stop, name))
    return apart


def _matches(data: bytes) -> Iterator[tuple[int, int]]:
    """Where shapes match, with the words before a secret that tell what it is."""
    low = data.lower()
    for shape in _SHAPES:
        if any(hint in low for hint in shape.hints):
            yield from ((match.start(), match.end(shape.pattern.groups)) for match in shape.pattern.finditer(data))


_BASE64_END = re.compile(rb"[\w+/-]?={0,2}")


def _exact(data: bytes) -> Iterator[tuple[int, int, str]]:
    for spelling in _spellings():
        start = data.find(spelling.raw)
        while start >= 0:
            stop = start + len(spelling.raw)
            if spelling.encoded:
                end = _BASE64_END.match(data, stop)
                stop = end.end() if end else stop
            if not spelling.raw.isdigit() or _whole_number(data, start, stop):
                yield start, stop, spelling.name
            start = data.find(spelling.raw, stop)


def _whole_number(data: bytes, start: int, stop: int) -> bool:
    """Digits alone may be part of a seed or a hash, so they count only where they stand alone."""
    return not data[max(0, start - 1) : start].isalnum() and not data[stop : stop + 1].isalnum()


@functools.cache
def _spellings() -> tuple[_Spelling, ...]:
    """Every spelling of every exact value, the longest first."""
    named = {name: value for name, value in os.environ.items() if _is_secret(name, value)} | _registered
    found: dict[bytes, _Spelling] = {}
    for name, value in named.items():
        raw = os.fsencode(value.strip())
        if len(raw) >= SHORTEST:
            for one in _plain(value.strip()):
                found.setdefault(one, _Spelling(one, name))
            for one in _base64(raw):
                found.setdefault(one, _Spelling(one, name, encoded=True))
    return tuple(sorted(found.values(), key=lambda one: -len(one.raw)))


def _is_secret(name: str, value: str) -> bool:
    """By the name; what names a file or a place is none itself."""
    telling = _TELLING.search(name.upper()) and not _NO_SECRET.search(name.upper())
    return bool(telling) and not (value.startswith(("/", "~", ".")) and os.path.exists(os.path.expanduser(value)))


def _plain(value: str) -> set[bytes]:
    said = json.dumps(value)[1:-1]
    quoted = {quote(value, safe=""), quote(value), quote_plus(value)}
    lower = {re.sub("%[0-9A-F]{2}", lambda sign: sign[0].lower(), one) for one in quoted}
    written = {value, said, said.replace("/", "\\/"), json.dumps(value, ensure_ascii=False)[1:-1]}
    return {os.fsencode(one) for one in written | quoted | lower}


def _base64(raw: bytes) -> set[bytes]:
    """As part of any base64 text: at three offsets, without the signs that depend on what stands beside it."""
    found = set()
    for before in range(3):
        signs = base64.b64encode(b"\0" * before + raw)[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6]
        found |= {signs, signs.replace(b"+", b"-").replace(b"/", b"_")}
    return found
