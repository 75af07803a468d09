"""The one form in which predictions are hashed, compared and scored: .npy, float32, two dimensions or more.

What means the same is rewritten in that form, here and nowhere else, before anything reads it:

    one dimension [n]                  [n, 1]
    float16, float64                   float32, rounded
    integers, as far as float32 holds each exactly (2^24); booleans (0 and 1)
    big-endian numbers                 little-endian

C and Fortran order stay as they are: who loads the file sees no difference. A file that holds anything else is left
alone, and `evaluator.check_predictions` refuses it with the way out that `advice` has.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.sandbox.collect import InvalidFile, open_regular
from autolab.sandbox.npy_header import PREDICTIONS_BYTES, NpyHeader, npy_header

if TYPE_CHECKING:
    import numpy.typing as npt

FLOAT32 = "<f4"
EXACT = 2**24
"""The largest integer up to which float32 holds every one."""
_NUMBERS = re.compile(r"[<>|](f[248]|[iu][1248]|b1)")
_WAYS_OUT = {
    "O": "objects, which would be unpickled: numpy.asarray(predictions, dtype=numpy.float32)",
    "c": "complex numbers: give real ones",
    "U": "texts: give a number for each class",
    "S": "texts: give a number for each class",
    "M": "dates: give numbers",
    "m": "times: give numbers",
}
_AT_ONCE = 1 << 20
"""Values that are converted at once, about."""


def settle_form(path: Path) -> None:
    """Rewrite a collected file of predictions in the form above, if it means the same. May be killed and called again.

    Nothing else may write the file.
    """
    import numpy as np

    header = _header(path)
    if header is None or (header.descr == FLOAT32 and len(header.shape) > 1):
        return
    if not _NUMBERS.fullmatch(header.descr) or 4 * math.prod(header.shape) > PREDICTIONS_BYTES:
        return
    expected = header.start + np.dtype(header.descr).itemsize * math.prod(header.shape)
    # A file of another length is refused as it is: numpy would read a part of it.
    if path.stat().st_size != expected:
        return
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    temporary = path.with_name(f".{path.name}.autolab-tmp")
    if _write(values, temporary):
        os.replace(temporary, path)
    else:
        temporary.unlink()


def _header(path: Path) -> NpyHeader | None:
    try:
        with open_regular(path, 2 * PREDICTIONS_BYTES) as file:
            return npy_header(file, dimensions=1)
    except (InvalidFile, OSError):
        return None


def _write(values: npt.NDArray[Any], path: Path) -> bool:
    """Write the values as float32 with two dimensions or more; False if float32 cannot hold one of them."""
    import numpy as np

    shape = values.shape if values.ndim > 1 else (len(values), 1)
    step = max(1, _AT_ONCE // math.prod(shape[1:]))
    # Of a call that was killed; and no link that a trial may have left there is followed.
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        header = {"descr": FLOAT32, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(values), step):
            block = np.ascontiguousarray(values[start : start + step])
            if not _fits(block):
                return False
            with np.errstate(over="ignore"):
                file.write(block.astype(FLOAT32).tobytes())
    return True


def _fits(block: npt.NDArray[Any]) -> bool:
    """Whether float32 holds integers exactly, and each finite number as a finite one."""
    import numpy as np

    if block.dtype.kind == "b":
        return True
    if block.dtype.kind in "iu":
        return int(block.max()) <= EXACT and int(block.min()) >= -EXACT
    finite = block[np.isfinite(block)]
    return finite.size == 0 or float(np.abs(finite).max()) <= float(np.finfo(np.float32).max)


def advice(descr: str) -> str:
    """Why a file whose numbers are of the type `descr` was not taken, and the way out."""
    kind = descr.strip("<>|=")[:1]
    if kind in _WAYS_OUT:
        return _WAYS_OUT[kind]
    if kind in ("i", "u") and _NUMBERS.fullmatch(descr):
        return f"integers above {EXACT:,}, which float32 cannot hold exactly: give numbers of classes, or scaled values"
    if _NUMBERS.fullmatch(descr):
        return "numbers beyond the range of float32: scale them"
    return "numpy.asarray(predictions, dtype=numpy.float32) makes it that"
