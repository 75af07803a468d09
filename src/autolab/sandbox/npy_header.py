"""The header of a .npy file, read with suspicion and without numpy."""

from __future__ import annotations

import ast
from typing import IO, Literal, NamedTuple

from autolab.sandbox.collect import InvalidFile

PREDICTIONS_BYTES = 2 * 1024**3
NPY_HEADER_BYTES = 4096


class NpyHeader(NamedTuple):
    """What the header of a .npy file says; its data begin at byte `start`."""

    descr: str
    fortran: bool
    shape: tuple[int, ...]
    start: int


def npy_header(file: IO[bytes], dimensions: Literal[1, 2] = 2) -> NpyHeader:
    """The header, parsed without pickle, in the form of numpy.lib.format, versions 1.0 and 2.0.

    InvalidFile: it is none, or the array has an empty dimension or fewer than `dimensions`."""
    start = file.read(12)
    if start[:6] != b"\x93NUMPY" or start[6:8] not in (b"\x01\x00", b"\x02\x00"):
        raise InvalidFile("not a .npy file of version 1.0 or 2.0; write it with numpy.save(..., allow_pickle=False)")
    width = 2 * start[6]  # version 2 has four bytes for the header's length, version 1 has two
    length = int.from_bytes(start[8 : 8 + width], "little")
    if length > NPY_HEADER_BYTES:
        raise InvalidFile(f"header of {length} bytes, more than the {NPY_HEADER_BYTES} allowed")
    file.seek(8 + width)
    # The text is a stranger's: what it makes the parser raise is one error here.
    try:
        header = ast.literal_eval(file.read(length).decode("latin-1").strip())
        descr, shape, fortran = header["descr"], header["shape"], bool(header.get("fortran_order"))
    except (ValueError, SyntaxError, TypeError, KeyError, AttributeError, RecursionError, MemoryError):
        raise InvalidFile("header is not that of a .npy file") from None
    if (
        not isinstance(shape, tuple)
        or len(shape) < dimensions
        or any(type(size) is not int or size < 1 for size in shape)
    ):
        least = {1: "one dimension", 2: "two dimensions"}[dimensions]
        raise InvalidFile(f"must have {least} or more and no empty one, got shape {str(shape)[:60]}")
    return NpyHeader(str(descr), fortran, shape, 8 + width + length)
