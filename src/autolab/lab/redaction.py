"""Takes secrets out of every text that leaves the engine: record, transcripts, logs, messages.

A secret is recognised by its exact value or by the shape of a well-known kind of key. Exact values are those of the
engine's environment variables whose names say that they hold a secret, and registered values, also as base64,
URL-quoted and JSON-escaped. `[redacted:NAME]` takes their place. Not recognised: values of fewer than `SHORTEST` bytes,
other encodings, and keys of more than `HOLD` bytes. Standard library only.
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
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

# Shorter values (a password `admin`, a key `1`) stand in ordinary text everywhere.
SHORTEST = 8
HOLD = 32 * 1024
"""Bytes that a stream keeps back at most, or the length of the longest exact value if that is more."""
BLOCK = 1 << 20

_TELLING = re.compile(
    r"(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY)S?(?![A-Z])"
    r"|(?:^|_)(?:KEY|AUTH|PAT)(?:_\d+)?$"
)
# SSH_AUTH_SOCK, AWS_SHARED_CREDENTIALS_FILE: they say where a secret lies.
_NO_SECRET = re.compile(r"_(?:FILE|PATH|DIR|FOLDER|SOCK|URL|URI)$")
_registered: dict[str, str] = {}


@dataclass(frozen=True)
class _Spelling:
    """A way to write the secret `name`."""

    raw: bytes
    name: str
    is_base64: bool = False
    """More characters may follow: one that holds the last bits, and padding."""


class _Span(NamedTuple):
    """Where a secret lies in some bytes, and what it is called."""

    start: int
    stop: int
    name: str


@dataclass(frozen=True)
class _Shape:
    """A kind of key. Every match contains one of `hints`, in lower case. A group of the pattern is the secret alone."""

    name: str
    hints: tuple[bytes, ...]
    pattern: re.Pattern[bytes]


# Between a label and its secret: an assignment, JSON, Python, or a sentence. The quotes may themselves be escaped.
_FOLLOWS = rb"""["'\\]{0,2}\s{0,4}(?::|=|,|\bis\b)\s{0,4}["'\\]{0,2}"""
# Every repetition has an upper limit: these patterns meet texts that somebody else chose, and must stay linear.
_SHAPES = tuple(
    _Shape(name, hints, re.compile(pattern))
    for name, hints, pattern in (
        ("anthropic key", (b"sk-ant-",), rb"(?<![A-Za-z0-9])sk-ant-[\w-]{16,2000}"),
        # Many words begin with `sk-`. So either one long run of characters, or a digit and a capital are required.
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
        # Forty characters of base64 could be a hash: only after its label is it a key.
        (
            "aws secret",
            (b"aws",),
            rb"(?i:aws_?secret(?:_?access)?_?key)" + _FOLLOWS + rb"([A-Za-z0-9/+]{40})(?![\w/+])",
        ),
        ("google key", (b"aiza", b"gocspx-", b"ya29."), rb"AIza[\w-]{35}|GOCSPX-[\w-]{20,255}|ya29\.[\w-]{20,2000}"),
        ("slack token", (b"xox", b"xapp-"), rb"(?<![A-Za-z0-9])x(?:ox[a-z]|app)-[A-Za-z0-9-]{10,500}"),
        ("slack hook", (b"hooks.slack.com",), rb"hooks\.slack\.com\\?/services\\?/([\w/\\]{20,200})"),
        # Old keys of wandb are 40 hexadecimal digits, as commits are. The label tells them apart.
        (
            "wandb key",
            (b"wandb", b"apikey", b"api_key", b"api-key", b"api key"),
            rb"(?i:(?:wandb|(?:wandb_?)?api[_ -]?key)" + _FOLLOWS + rb"|wandb[_ ](?:login|key|token)[\s=:]{1,4}"
            rb"|wandb[^\n]{1,80}\bpassword\s)[\"'\s]{0,4}([0-9a-f]{40})(?![0-9A-Za-z])",
        ),
        ("wandb key", (b"wandb_v1_",), rb"wandb_v1_\w{20,255}"),
        ("jwt", (b"eyj",), rb"(?<![\w-])eyJ[\w-]{10,8000}\.[\w-]{10,8000}\.[\w-]{5,4000}(?:\.[\w-]{1,4000}){0,2}"),
        # The second form has lost its end (a text that was cut): then every line of base64 belongs to the key.
        (
            "private key",
            (b"private key",),
            rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:[^\"]{1,16384}?-----END [A-Z0-9 ]{1,40}-----"
            rb"|(?:(?:\s|\\[nrt]){0,8}[A-Za-z0-9+/=]{16,16384}){0,400})",
        ),
        # In a URL: user:password@host, and a long token alone in front of the host.
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
_BLOCK_START = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}")
_LABEL = re.compile(rb"(?i:authorization|bearer|basic|token|wandb|key|login|password)[^\n]{0,160}\Z")
"""A word on the last line after which a secret may come."""


def register(name: str, value: str) -> None:
    """Make `value` a secret, shown as `[redacted:name]` from now on: for keys that no environment variable holds."""
    _registered[name] = value
    _spellings.cache_clear()


def clean(text: str) -> str:
    """The text without secrets; the same object if it has none."""
    if len(text) < SHORTEST:
        return text
    data = text.encode("utf-8", "surrogatepass")
    spans = _spans(data)
    return _replace(data, spans).decode("utf-8", "surrogatepass") if spans else text


def clean_value(value: Any) -> Any:
    """A JSON value without secrets in its texts and keys; tuples become lists."""
    texts: list[str] = []
    value = _gather(value, texts)
    # One search over all texts, a line each, is quick. It finds whatever a search of each text would find.
    if _spans("\n".join(texts).encode("utf-8", "surrogatepass")):
        return _clean_parts(value)
    return value


def _gather(value: Any, texts: list[str], key: str = "") -> Any:
    """The value with lists for its tuples. Each of its texts is added to `texts`, after its key."""
    if isinstance(value, dict):
        return {name: _gather(part, texts, name) for name, part in value.items()}
    if isinstance(value, str):
        texts.append(f"{key}: {value}")
        return value
    if key:
        texts.append(key)
    if isinstance(value, list | tuple):
        return [_gather(part, texts) for part in value]
    return value


def _clean_parts(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _clean_entry(key, part) for key, part in value.items()}
    if isinstance(value, list):
        return [_clean_parts(part) for part in value]
    return value


def _clean_entry(key: str, value: Any) -> Any:
    """A value of a dictionary. Its key may be the word that tells that it is a secret."""
    if not isinstance(value, str) or len(value) < SHORTEST:
        return _clean_parts(value)
    label = f"{clean(key)}: "
    entry = f"{key}: {value}"
    cleaned = clean(entry)
    if cleaned != entry and cleaned.startswith(label):
        return cleaned.removeprefix(label)
    # The secret began in the key, so that key and value cannot be told apart any more.
    return clean(value)


def clean_json(text: str) -> str:
    """A text that should be JSON, without secrets, however its characters are escaped.

    It is written anew only if a secret was found in its values. What is not JSON is cleaned as plain text.
    """
    try:
        value = json.loads(text)
        cleaned = clean_value(value)
    except (ValueError, RecursionError):
        return clean(text)
    if cleaned == value:
        # Written anew, it would lose the order, the blanks and the escapes that its author chose.
        return clean(text)
    # A lone surrogate, which no file can hold, stays the escape that it came as.
    return clean(json.dumps(cleaned, ensure_ascii=False).encode("utf-8", errors="backslashreplace").decode())


def clean_file(path: Path) -> bool:
    """Take the secrets out of a regular file, atomically, keeping its mode; whether there were any.

    A file without secrets is not touched. It is read in blocks, and nothing else may write it meanwhile.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or not _has_secret(path):
        return False
    # Only now is a copy made: most files have no secret, and the first reading writes nothing.
    # Not `files.write_whole`: a file may be larger than memory.
    partial = path.with_name(f".{path.name[:200]}.autolab-clean")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.writelines(_clean_blocks(path, Stream()))
        file.flush()
        os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
        os.fsync(file.fileno())
    os.replace(partial, path)
    return True


def _has_secret(path: Path) -> bool:
    stream = Stream()
    return any(stream.count for _ in _clean_blocks(path, stream))


def _clean_blocks(path: Path, stream: Stream) -> Iterator[bytes]:
    # A program may have put a link or a pipe in its place since: neither is followed or waited for.
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        while block := file.read(BLOCK):
            yield stream.feed(block)
    yield stream.finish()


class Stream:
    """Bytes that come in pieces: a secret is recognised wherever it is cut. `count` is the number of secrets.

    The stream keeps back what may be the beginning of a secret: the last word, the line since a word that announces
    one, a key block without its end; at most `HOLD` bytes, or the length of the longest exact value.
    """

    def __init__(self) -> None:
        self._waiting = b""
        self.count = 0

    def feed(self, block: bytes) -> bytes:
        """What cannot be changed by bytes after `block`, without secrets."""
        self._waiting += block
        spans = _spans(self._waiting)
        return self._release(_cut(self._waiting, spans), spans)

    def finish(self) -> bytes:
        """The rest, without secrets."""
        return self._release(len(self._waiting), _spans(self._waiting))

    def _release(self, cut: int, spans: list[_Span]) -> bytes:
        before = [span for span in spans if span.stop <= cut]
        out = _replace(self._waiting[:cut], before)
        self._waiting = self._waiting[cut:]
        self.count += len(before)
        return out


def _cut(data: bytes, spans: list[_Span]) -> int:
    """How many bytes may leave: no secret, nor what may become one, lies across this place."""
    # Each step moves the place only towards the beginning, except the last.
    cut = _open_block(data, spans)
    label = _LABEL.search(data, max(0, len(data) - 200))
    if label:
        cut = min(cut, label.start())
    longest = HOLD
    for spelling in _spellings():
        longest = max(longest, len(spelling.raw))
        # A secret of several words may have begun before the last word.
        if len(spelling.raw.split()) > 1:
            cut = min(cut, len(data) - _overlap(data, spelling.raw))
    cut = _word_start(data, cut)
    secrets = [(span.start, span.stop) for span in spans] + _labelled(data)
    while across := [start for start, stop in secrets if start < cut < stop]:
        cut = _word_start(data, min(across))
    # Else a text without a blank would fill the memory. At least no secret that is complete is cut in two.
    forced = len(data) - longest
    if cut >= forced:
        return cut
    for span in spans:
        if span.start < forced < span.stop:
            return span.stop
    return forced


def _word_start(data: bytes, place: int) -> int:
    """Where the word begins that `place` is in or at the end of."""
    return max(data.rfind(blank, 0, place) for blank in (b" ", b"\n", b"\t", b"\r")) + 1


def _open_block(data: bytes, spans: list[_Span]) -> int:
    """Where a key block begins whose end has not come; the end of `data` if there is none."""
    for begin in _BLOCK_START.finditer(data):
        around = [span for span in spans if span.start <= begin.start() < span.stop]
        has_ended = any(b"-----END" in data[span.start : span.stop] for span in around)
        if not has_ended and (b"PRIVATE KEY" in begin[0] or begin.end() == len(data)):
            return begin.start()
    return len(data)


def _overlap(data: bytes, spelling: bytes) -> int:
    """The length of the longest end of `data` with which `spelling` begins."""
    for length in range(min(len(data), len(spelling)), 0, -1):
        if data.endswith(spelling[:length]):
            return length
    return 0


def _replace(data: bytes, spans: list[_Span]) -> bytes:
    out = bytearray()
    end = 0
    for span in spans:
        out += data[end : span.start] + f"[redacted:{span.name}]".encode()
        end = span.stop
    return bytes(out + data[end:])


def _spans(data: bytes) -> list[_Span]:
    """The secrets in order, without overlap. Where an exact value and a shape begin together, the value names both."""
    exact = sorted(_exact(data))
    # The number of groups is the number of the last one: group 0 is the whole match.
    shaped = sorted(_Span(*match.span(shape.pattern.groups), shape.name) for shape, match in _shape_matches(data))
    spans: list[_Span] = []
    # The sort is stable, so that exact values stay before shapes that begin at the same place.
    for span in sorted([*exact, *shaped], key=lambda span: span.start):
        if spans and span.start < spans[-1].stop:
            spans[-1] = spans[-1]._replace(stop=max(spans[-1].stop, span.stop))
        else:
            spans.append(span)
    return spans


def _labelled(data: bytes) -> list[tuple[int, int]]:
    """Start and stop of each match of a shape, with the words before the secret that announce it."""
    return [(match.start(), match.end(shape.pattern.groups)) for shape, match in _shape_matches(data)]


def _shape_matches(data: bytes) -> Iterator[tuple[_Shape, re.Match[bytes]]]:
    lower = data.lower()
    for shape in _SHAPES:
        # A search for a few bytes is far quicker than a pattern, and most texts have no key.
        if any(hint in lower for hint in shape.hints):
            for match in shape.pattern.finditer(data):
                yield shape, match


_BASE64_END = re.compile(rb"[\w+/-]?={0,2}")


def _base64_end(data: bytes, stop: int) -> int:
    match = _BASE64_END.match(data, stop)
    assert match is not None, "both parts of the pattern may be empty"
    return match.end()


def _exact(data: bytes) -> Iterator[_Span]:
    for spelling in _spellings():
        start = data.find(spelling.raw)
        while start >= 0:
            stop = start + len(spelling.raw)
            if spelling.is_base64:
                stop = _base64_end(data, stop)
            if not spelling.raw.isdigit() or _stands_alone(data, start, stop):
                yield _Span(start, stop, spelling.name)
            start = data.find(spelling.raw, stop)


def _stands_alone(data: bytes, start: int, stop: int) -> bool:
    """Whether no letter or digit is beside it. Digits alone may otherwise be part of a seed or a hash."""
    return not data[max(0, start - 1) : start].isalnum() and not data[stop : stop + 1].isalnum()


@functools.cache
def _spellings() -> tuple[_Spelling, ...]:
    """Every spelling of every exact value, the longest first."""
    # Read once: to go through the environment for each text would be slow.
    values = {name: value for name, value in os.environ.items() if _is_secret(name, value)} | _registered
    spellings: dict[bytes, _Spelling] = {}
    for name, value in values.items():
        value = value.strip()
        raw = os.fsencode(value)
        if len(raw) < SHORTEST:
            continue
        for text in _plain(value):
            spellings.setdefault(text, _Spelling(text, name))
        for text in _base64(raw):
            spellings.setdefault(text, _Spelling(text, name, is_base64=True))
    return tuple(sorted(spellings.values(), key=lambda spelling: -len(spelling.raw)))


def _is_secret(name: str, value: str) -> bool:
    """Whether a variable's name says that it holds a secret, and its value is not the path of a file."""
    name = name.upper()
    # A program may be told by GOOGLE_CREDENTIALS=/home/pat/key.json where its key lies.
    if not _TELLING.search(name) or _NO_SECRET.search(name):
        return False
    return not (value.startswith(("/", "~", ".")) and os.path.exists(os.path.expanduser(value)))


def _plain(value: str) -> set[bytes]:
    """The secret as it is, in JSON strings and in URLs."""
    json_text = json.dumps(value)[1:-1]
    # Some writers of JSON escape the slash.
    texts = {value, json_text, json_text.replace("/", "\\/"), json.dumps(value, ensure_ascii=False)[1:-1]}
    for url_text in (quote(value, safe=""), quote(value), quote_plus(value)):
        # Both cases of hexadecimal digits are legal in a URL.
        lower_case = re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), url_text)
        texts |= {url_text, lower_case}
    return {os.fsencode(text) for text in texts}


def _base64(raw: bytes) -> set[bytes]:
    """The secret within any base64 text: at three offsets, without the characters that depend on its neighbours."""
    spellings = set()
    for offset, first in enumerate((0, 2, 3)):
        # Four characters hold three bytes: the same secret looks different at each of three offsets.
        whole = base64.b64encode(b"\0" * offset + raw)
        part = whole[first : (offset + len(raw)) * 8 // 6]
        spellings |= {part, part.replace(b"+", b"-").replace(b"/", b"_")}
    return spellings
