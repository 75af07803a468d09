"""TensorBoard's event files (`events.out.tfevents.…`): the scalars in them, by their tags.

A file is a row of records: length, checksum of the length, an `Event`, checksum of the event. An event's summary has
values with a tag and a number: `simple_value` (torch, TensorFlow 1), or a tensor of one element (TensorFlow 2). What
else an event holds, such as pictures, histograms and texts, is passed over. A record that is cut off ends the file:
its training was killed while it wrote.

The file is a trial's, so nothing in it is trusted: lengths are checked against what is there, and nothing is allocated
for them. RECORDS events and VALUES of each are read. Checksums are not verified: who forges a number forges them too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

NAME = "events.out.tfevents"
RECORDS = 1_000_000
VALUES = 1_000
TAG_BYTES = 200
_HEAD, _FOOT = 12, 4
"""Bytes of a record around its event: the length and its checksum before it, a checksum after it."""
_SUMMARY, _VALUE, _TAG, _SIMPLE, _TENSOR = 5, 1, 1, 2, 8
"""Numbers of fields: of Event, Summary and Summary.Value."""
_DTYPE, _CONTENT = 1, 4
_ELEMENTS = {1: (5, "<f"), 2: (6, "<d"), 3: (7, ""), 9: (10, "")}
"""Of TensorProto, by dtype (float, double, int32, int64): the field of its elements, and the form of one in bytes."""
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


def is_event_file(source: str) -> bool:
    """Whether a path, or a pattern, names an event file."""
    return source.rpartition("/")[2].startswith(NAME)


def scalars(content: bytes) -> Iterator[tuple[int, str, str]]:
    """The number of the record, from 1, the tag and the value of each scalar, in their order."""
    for number, event in enumerate(_records(content), 1):
        for summary in _fields(event, _SUMMARY):
            for value in list(_fields(summary, _VALUE))[:VALUES]:
                tag, text = _scalar(value)
                if tag and text:
                    yield number, tag, text


def _records(content: bytes) -> Iterator[bytes]:
    place = 0
    for _ in range(RECORDS):
        head = content[place : place + _HEAD]
        if len(head) < _HEAD:
            return
        end = place + _HEAD + int.from_bytes(head[:8], "little")
        if end + _FOOT > len(content):
            return
        yield content[place + _HEAD : end]
        place = end + _FOOT


def _scalar(value: bytes) -> tuple[str, str]:
    """The tag of a summary's value, and its number as a text; empty if it is none."""
    tag, text = "", ""
    for field, content in _message(value):
        if field == _TAG and isinstance(content, bytes):
            tag = content[:TAG_BYTES].decode("utf-8", "replace").strip()
        elif field == _SIMPLE and isinstance(content, bytes):
            text = _float(content)
        elif field == _TENSOR and isinstance(content, bytes):
            text = _element(content)
    return tag, text


def _element(tensor: bytes) -> str:
    """The one element of a tensor as a text; empty if it has another number of them or is no number."""
    parts = dict(_message(tensor))
    dtype = parts.get(_DTYPE)
    if not isinstance(dtype, int) or dtype not in _ELEMENTS:
        return ""
    field, form = _ELEMENTS[dtype]
    element = parts.get(field, parts.get(_CONTENT))
    if isinstance(element, int):
        return str(element)
    size = struct.calcsize(form) if form else 0
    if not isinstance(element, bytes) or len(element) != size:
        return ""
    return _float(element)


def _float(content: bytes) -> str:
    """A number of 4 or 8 bytes with the fewest digits that give it back."""
    if len(content) == 8:
        return repr(struct.unpack("<d", content)[0])
    if len(content) != 4:
        return ""
    number = struct.unpack("<f", content)[0]
    # Six digits without zeros at their end are as few as there are, if they are enough.
    for digits in range(6, 10):
        text = f"{number:.{digits}g}"
        if abs(float(text)) < 3.4e38 and struct.pack("<f", float(text)) == content:
            return text
    return repr(number)


def _fields(message: bytes, wanted: int) -> Iterator[bytes]:
    for field, content in _message(message):
        if field == wanted and isinstance(content, bytes):
            yield content


def _message(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message of protocol buffers, up to the first that is malformed."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        if key < 0:
            return
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            content, place = _varint(message, place)
            if content < 0:
                return
            yield field, content
            continue
        size = {_FIXED_64: 8, _FIXED_32: 4}.get(kind, -1)
        if kind == _BYTES:
            size, place = _varint(message, place)
        if size < 0 or place + size > len(message):
            return
        yield field, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A number of up to ten bytes of seven bits each, and where it ends; -1 if it does not end."""
    number = 0
    for shift, byte in enumerate(message[place : place + 10]):
        number |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return number, place + shift + 1
    return -1, place
