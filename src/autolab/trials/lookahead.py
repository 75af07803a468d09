"""The altered-suffix check: a sequence model's prediction may rest on what came before it and on nothing after.

Inputs [n, T, ...] are altered once a lab: each row keeps its beginning up to a cut and gets the end of another row.
*Predict* runs on the true and on the altered inputs, in an order that changes from trial to trial. Wherever a row is
still the same, so must be its prediction; else the model looked ahead, or at other rows.

Cuts, donors and order come from the lab's secret. Both runs read `inputs.npy` in their own folder. Not covered until
containment is built: a program that looks around outside of its folder.
"""

from __future__ import annotations

import hmac
import math
import re
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autolab import files
from autolab.errors import LabError
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.sandbox.collect import InvalidFile, open_regular
from autolab.sandbox.npy_header import PREDICTIONS_BYTES, NpyHeader, npy_header
from autolab.trials.evaluator import Problem

TRUE, ALTERED = "inputs", "altered"
"""The two inputs, as a job names them."""
STEPS = ("predict_1", "predict_2")
ATOL, RTOL = 1e-3, 1e-5
"""How far a log-probability may move: the rounding of float32 sums in another order, and no useful hint."""


@dataclass(frozen=True)
class Altered:
    """Altered inputs (a .npy file), the cut of each row, and what the order of the runs is drawn from."""

    inputs: Path
    cuts: tuple[int, ...]
    secret: bytes

    def order(self, key: str) -> dict[str, str]:
        """Step -> which inputs it reads, for the job with this effect key."""
        sources = [TRUE, ALTERED]
        # Drawn anew for each job: a program that counts its runs cannot tell which inputs are the true ones.
        if _draw(self.secret, f"order of {key}")[0] % 2 == 0:
            sources.reverse()
        return dict(zip(STEPS, sources, strict=True))


def _draw(secret: bytes, purpose: str) -> bytes:
    return hmac.digest(secret, purpose.encode(), "sha256")


def alter(inputs: Path, secret: bytes, exports: Path) -> Altered:
    """Make the altered inputs below `exports`, or find them there. LabError: inputs that are no sequences."""
    head, content = require_sequences(inputs), inputs.read_bytes()
    secret = _draw(secret, f"altered suffix of {files.sha256_of(content)}")
    rows, length = head.shape[:2]
    draws = [_draw(secret, f"row {row}") for row in range(rows)]
    # 1 <= cut < length: at least one position of each row stays and one may change.
    cuts = tuple(1 + int.from_bytes(draw[:8]) % (length - 1) for draw in draws)
    folder = exports / f"suffix-{_draw(secret, 'folder').hex()[:16]}"
    if not folder.exists():
        _save(_with_other_ends(content, head, cuts, draws), folder)
    return Altered(folder / "inputs.npy", cuts, secret)


def _with_other_ends(content: bytes, head: NpyHeader, cuts: Sequence[int], draws: Sequence[bytes]) -> bytes:
    """The .npy file with each row's end, from its cut on, replaced by that of another row."""
    rows, length = head.shape[:2]
    row_bytes = (len(content) - head.start) // rows
    parts = [content[: head.start]]
    for row, (cut, draw) in enumerate(zip(cuts, draws, strict=True)):
        # The offset is 1 to rows - 1, so that no row is its own donor.
        donor = (row + 1 + int.from_bytes(draw[8:16]) % (rows - 1)) % rows
        start = head.start + row * row_bytes
        donor_start = head.start + donor * row_bytes
        cut_bytes = cut * row_bytes // length
        parts.append(content[start : start + cut_bytes])
        parts.append(content[donor_start + cut_bytes : donor_start + row_bytes])
    return b"".join(parts)


def require_sequences(inputs: Path) -> NpyHeader:
    """The head of a .npy file whose rows can be cut; LabError where it holds no sequences."""
    try:
        with open_regular(inputs, PREDICTIONS_BYTES) as file:
            head = npy_header(file)
        if min(head.shape[:2]) < 2 or head.fortran or not re.fullmatch(r"[<>|][biuf]\d+", head.descr):
            raise InvalidFile(
                f"{head.descr} {list(head.shape)}, but two rows of two positions or more are needed, in C order"
            )
    except InvalidFile as error:
        raise LabError(f"{inputs.name}: {error}; evaluate.altered_suffix needs sequences [n, T]") from None
    return head


def _save(content: bytes, folder: Path) -> None:
    # Renamed as a whole: after a crash a folder of this name holds the complete file.
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    files.write_whole(partial / "inputs.npy", content, mode=0o644)
    partial.rename(folder)


def compare(true: Path, altered: Path, cuts: tuple[int, ...]) -> Problem | None:
    """Hold two checked predictions [n, T, ...] against each other, each row up to its cut."""
    try:
        with open_regular(true, PREDICTIONS_BYTES) as first, open_regular(altered, PREDICTIONS_BYTES) as second:
            shape = _shape(npy_header(first), npy_header(second), cuts)
            values = math.prod(shape[2:])
            row_bytes = 4 * shape[1] * values
            for row, cut in enumerate(cuts):
                size = 4 * cut * values
                before, after = first.read(row_bytes)[:size], second.read(row_bytes)[:size]
                difference = _first_difference(before, after)
                if difference is not None:
                    index, change = difference
                    where = f"{true.name}: row {row}, position {index // values}"
                    message = f"{where}: changes by {change:.3g} when only inputs after it do"
                    reason = "the model looks ahead, or predicting twice gives two results"
                    return Problem(TrialOutcome.TAMPERED, f"{message}; {reason}")
    except InvalidFile as error:
        return Problem(TrialOutcome.INVALID_ARTIFACT, f"{true.name}: {error}")
    return None


def _shape(first: NpyHeader, second: NpyHeader, cuts: tuple[int, ...]) -> tuple[int, ...]:
    shape = first.shape
    if shape != second.shape or shape[0] != len(cuts) or shape[1] < max(cuts) or first.fortran or second.fortran:
        both = f"{list(shape)} and {list(second.shape)} in two runs"
        raise InvalidFile(f"shapes {both}; both must be [{len(cuts)}, T, classes], in C order")
    return shape


def _first_difference(before: bytes, after: bytes) -> tuple[int, float] | None:
    """Index of the first float32 that differs by more than rounding, and by how much it does."""
    if before == after:
        return None
    pairs = zip(struct.iter_unpack("<f", before), struct.iter_unpack("<f", after), strict=True)
    for index, ((a,), (b,)) in enumerate(pairs):
        # Infinities are equal but their difference is NaN; NaN is not equal to itself.
        both_nan = a != a and b != b
        if not (a == b or both_nan or abs(a - b) <= ATOL + RTOL * abs(b)):
            return index, abs(a - b)
    return None
