"""The pieces that a file can be read as: its own bytes, and everything that is written or packed into them.

Base64, hexadecimal, base85 and escapes in a text; zlib, gzip, bzip2, xz and zip in all of these, up to `DEEPEST` inside
each other and up to `UNPACKED` bytes in all.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

UNPACKED = 16_000_000
"""Bytes that are looked at in all, with what was decoded."""
DEEPEST = 3
SHORTEST = 24
"""Bytes of the smallest piece: in fewer no run of labels can be told from chance."""
# What stands between two string literals that Python, `+` or a list puts together.
_JOIN = re.compile(rb"[\"'][\s\\+,]*[bBrRuUfF]{0,2}[\"']")
# Both alphabets at once: the URL-safe one is translated.
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{32,}={0,2}")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_HEX = re.compile(rb"[0-9a-fA-F]{48,}")
# The characters of b85 and of Ascii85 together; `_decoded` tries both.
_BASE85 = re.compile(rb"[0-9A-Za-z!#$%&()*+\-;<=>?@^_`{|}~./,:\[\]\"']{48,}")
ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|u00([0-9a-fA-F]{2})|([0-7]{1,3})|([abtnvfr\\'\"]))")
_SHORT_ESCAPES = dict(zip(b"abtnvfr\\'\"", b"\a\b\t\n\v\f\r\\'\"", strict=True))
_MAGIC: tuple[tuple[re.Pattern[bytes], Callable[[], Any]], ...] = (
    (re.compile(rb"\x1f\x8b\x08"), lambda: zlib.decompressobj(31)),
    (re.compile(rb"\x78[\x01\x5e\x9c\xda]"), lambda: zlib.decompressobj()),
    (re.compile(rb"BZh[1-9]1AY"), bz2.BZ2Decompressor),
    (re.compile(rb"\xfd7zXZ\0"), lzma.LZMADecompressor),
)
"""The first bytes of packed data, and what unpacks it."""
_TRIED = 64
"""Places where packed data may begin, of each kind."""


@dataclass(frozen=True)
class Piece:
    """Bytes of a file, or decoded from it; `array` if they are a .npy file."""

    raw: bytes
    text: bool
    array: Any = None


def pieces(content: bytes) -> Iterator[Piece]:
    """A file and everything that is packed into it."""
    # A budget for all together, because a small file may unpack to gigabytes.
    remaining = UNPACKED
    waiting, contents = [(content, 0)], {content}
    while waiting and remaining > 0:
        # Breadth first: what lies near the surface is looked at before the budget is spent.
        raw, depth = waiting.pop(0)
        raw = raw[:remaining]
        remaining -= len(raw)
        text = _is_text(raw)
        yield Piece(raw, text, _array(raw))
        if depth == DEEPEST:
            continue
        inner = list(_unpacked(raw, remaining))
        if text:
            inner = [*_decoded(raw), *inner]
        for part in inner:
            # Two ways of reading often give the same bytes.
            if len(part) >= SHORTEST and part not in contents:
                contents.add(part)
                waiting.append((part, depth + 1))


def _is_text(raw: bytes) -> bool:
    # Control characters that no text holds; UTF-8 alone would accept an array of small integers.
    if re.search(rb"[\x00-\x08\x0e-\x1a]", raw):
        return False
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _array(raw: bytes) -> Any:
    import numpy as np

    if raw[:6] != b"\x93NUMPY":
        return None
    try:
        return np.load(io.BytesIO(raw), allow_pickle=False)
    # SyntaxError: numpy parses the header as a Python literal.
    except (ValueError, EOFError, OSError, MemoryError, SyntaxError):
        return None


def _decoded(raw: bytes) -> Iterator[bytes]:
    """What is written in a text as base64, hexadecimal, base85 or escapes."""
    joined = _JOIN.sub(b"", raw)
    # Once without white space, because long codes are broken into lines.
    for source in dict.fromkeys((joined, re.sub(rb"\s+", b"", joined))):
        for run in _HEX.findall(source):
            yield binascii.unhexlify(run[: len(run) // 2 * 2])
        for run in _BASE64.findall(source):
            digits = run.rstrip(b"=").translate(_URL_SAFE)
            yield _from_base64(digits)
            # The b of b"..." may stand before it, where quotes were taken out.
            yield _from_base64(digits[1:])
    for run in _BASE85.findall(joined):
        # Quotes are characters of Ascii85, but they also end a literal.
        for part in re.split(rb"[\"']", run):
            for decode in (base64.b85decode, base64.a85decode):
                try:
                    yield decode(part)
                except ValueError:
                    continue
    if b"\\" in raw:
        yield ESCAPE.sub(_unescaped, joined)


def _from_base64(digits: bytes) -> bytes:
    """What base64 digits mean, without those at the end that are no whole byte."""
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return base64.b64decode(digits + b"=" * (-len(digits) % 4))


def _unescaped(match: re.Match[bytes]) -> bytes:
    hexadecimal, octal, letter = match[1] or match[2], match[3], match[4]
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    if octal:
        # Three octal digits go up to 511; Python keeps the lowest byte too.
        return bytes([int(octal, 8) & 255])
    return bytes([_SHORT_ESCAPES[letter[0]]])


def _unpacked(raw: bytes, limit: int) -> Iterator[bytes]:
    """What is packed in some bytes, wherever it begins."""
    if b"PK\x03\x04" in raw:
        yield from _unzipped(raw, limit)
    for magic, unpacker in _MAGIC:
        for number, match in enumerate(magic.finditer(raw)):
            # Two bytes of zlib stand in any random data, and each is an attempt.
            if number == _TRIED:
                break
            try:
                yield unpacker().decompress(raw[match.start() :], max(1, limit))
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
                continue


def _unzipped(raw: bytes, limit: int) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            for member in packed.infolist()[:_TRIED]:
                with packed.open(member) as file:
                    yield file.read(limit)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError):
        return
