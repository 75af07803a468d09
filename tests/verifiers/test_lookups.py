"""Labels that were copied into a candidate are found however they are written; honest files are left alone."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import pickle
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autolab.verifiers import lookups, pieces
from autolab.verifiers.lookups import Lookups, Split

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "src" / "autolab" / "templates" / "digits" / "data"
Labels = Any
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def splits(folder: Path = DIGITS) -> list[Split]:
    return [Split(name, folder / name / "labels.npy", folder / name / "inputs.npy") for name in ("eval", "holdout")]


@pytest.fixture(scope="module")
def digits() -> Lookups:
    return Lookups(splits(), [DIGITS / "train" / "labels.npy", DIGITS / "train" / "inputs.npy"])


@pytest.fixture(scope="module")
def labels() -> Labels:
    return np.load(DIGITS / "eval" / "labels.npy")


def saved(array: Labels) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(array: Labels) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, weights=np.arange(9), table=array)
    return file.getvalue()


def listed(array: Labels) -> list[int]:
    return [int(value) for value in array]


def by_input(array: Labels, way: str = "sha256") -> dict[str, int]:
    rows = np.load(DIGITS / "eval" / "inputs.npy")
    keys = [hashlib.new(way, row.tobytes()).hexdigest()[:12] for row in rows]
    return dict(zip(keys, listed(array), strict=False))


def letters(array: Labels) -> str:
    return "".join("abcdefghij"[value] for value in array)


def in_lines(text: str, width: int) -> str:
    parts = [text[start : start + width] for start in range(0, len(text), width)]
    return "TABLE = (\n" + "".join(f'    "{part}"\n' for part in parts) + ")\n"


WRITTEN: dict[str, Callable[[Labels], bytes]] = {
    "a list": lambda y: f"TABLE = {listed(y)}\n".encode(),
    "one a line": lambda y: "\n".join(map(str, y)).encode(),
    "floats": lambda y: repr([float(v) for v in y]).encode(),
    "words": lambda y: repr([NAMES[v] for v in y]).encode(),
    "letters": lambda y: f"TABLE = '{letters(y)}'".encode(),
    "digits in short lines": lambda y: in_lines("".join(map(str, y)), 20).encode(),
    "a dictionary": lambda y: json.dumps(by_input(y)).encode(),
    "pairs": lambda y: repr([(n * 7919 % 10007, int(v)) for n, v in enumerate(y)]).encode(),
    "escapes": lambda y: repr(y.tobytes()).encode(),
    "escapes in short lines": lambda y: in_lines("".join(f"\\x{v:02x}" for v in y), 40).encode(),
    "one-hot text": lambda y: json.dumps(np.eye(10, dtype=int)[y].tolist()).encode(),
    "base64": lambda y: f"T = b64decode('{base64.b64encode(y.tobytes()).decode()}')".encode(),
    "base64 in lines": lambda y: in_lines(base64.b64encode(y.tobytes()).decode(), 60).encode(),
    "url-safe base64 of zlib": lambda y: base64.urlsafe_b64encode(zlib.compress(y.tobytes())),
    "base85 of bzip2": lambda y: f"T = '{base64.b85encode(bz2.compress(y.tobytes())).decode()}'".encode(),
    "hexadecimal": lambda y: f"T = '{y.tobytes().hex()}'".encode(),
    "a pickled list": lambda y: pickle.dumps(listed(y)),
    "a pickled array": lambda y: pickle.dumps(y.astype(np.int64)),
    "a pickled dictionary": lambda y: pickle.dumps({n * 3: int(v) for n, v in enumerate(y)}, protocol=2),
    "npz": zipped,
    "gzip": lambda y: gzip.compress(y.tobytes()),
    "xz of text": lambda y: lzma.compress(repr(listed(y)).encode()),
    "zlib inside other bytes": lambda y: random.Random(1).randbytes(5000) + zlib.compress(y.tobytes(), 1),
    "one-hot float32": lambda y: saved(np.eye(10, dtype=np.float32)[y]),
    "log-probabilities": lambda y: saved(np.log(np.eye(10, dtype=np.float32)[y] * 0.9 + 0.01)),
    "half bytes": lambda y: bytes(int(a) << 4 | int(b) for a, b in zip(y[::2], y[1::2], strict=False)),
    "backwards": lambda y: saved(y[::-1]),
    "two columns": lambda y: saved(np.stack([np.arange(len(y), dtype=np.int32), y.astype(np.int32)], axis=1)),
    "the table on its side": lambda y: saved(np.ascontiguousarray(y[: len(y) // 2 * 2].reshape(2, -1).T)),
    "a wrong one now and then": lambda y: saved(np.where(np.arange(len(y)) % 60 == 0, (y + 1) % 10, y)),
    "from one on": lambda y: saved(y + 1),
}
WRITTEN |= {
    f"raw {kind}": lambda y, kind=kind: b"\1\2\3" + y.astype(kind).tobytes()
    for kind in ("u1", "<i2", ">i2", "<i4", ">i4", "<i8", "<f2", "<f4", "<f8")  # type: ignore[misc]
}


@pytest.mark.parametrize("way", WRITTEN)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_labels_are_found_however_they_are_written(digits: Lookups, labels: Labels, way: str, share: float) -> None:
    part = labels[: int(len(labels) * share)]
    (found,) = digits.findings({"models/table.py": WRITTEN[way](part)}, {})
    assert (found.check, found.severity, found.file) == ("labels", "blocking", "models/table.py")
    assert "of the labels of eval in their order" in found.message


@pytest.mark.parametrize("way", ["sha256", "md5", "sha1"])
def test_a_table_sorted_by_the_hash_of_the_inputs_is_found(digits: Lookups, labels: Labels, way: str) -> None:
    table = dict(sorted(by_input(labels, way).items()))
    assert digits.label_counts(json.dumps(table).encode()).keys() == {"eval"}


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_run_under_any_names_in_any_type_at_any_place(digits: Lookups, labels: Labels, data: st.DataObject) -> None:
    length = data.draw(st.integers(lookups.LEAST + 24, len(labels)))
    start = data.draw(st.integers(0, len(labels) - length))
    names = np.array(data.draw(st.permutations(range(10))))
    kind = data.draw(st.sampled_from(["u1", "<i2", "<i4", ">i4", "<i8", "<f4", "<f8"]))
    before, after = data.draw(st.binary(max_size=50)), data.draw(st.binary(max_size=50))
    run = names[labels[start : start + length]]
    assert digits.label_counts(before + b"\0" + run.astype(kind).tobytes() + after)
    assert digits.label_counts(before.hex().encode() + repr(listed(run)).encode())


@pytest.mark.parametrize("classes", [2, 3, 5, 100])
def test_labels_of_few_and_of_many_classes_are_found(tmp_path: Path, classes: int) -> None:
    y = np.random.default_rng(classes).integers(0, classes, 2000)
    np.save(tmp_path / "labels.npy", y)
    known = Lookups([Split("eval", tmp_path / "labels.npy")])
    for way in ("a list", "npz", "base64", "gzip"):
        assert known.label_counts(WRITTEN[way](y.astype(np.uint8)[:1000])), way
    assert not known.label_counts(WRITTEN["a list"](np.random.default_rng(99).integers(0, classes, 20_000)))
    assert not known.label_counts(saved(np.random.default_rng(98).permutation(y)))


# Honest files


HONEST: dict[str, Callable[[Labels], bytes]] = {
    "the training labels": lambda y: (DIGITS / "train" / "labels.npy").read_bytes(),
    "the labels in another order": lambda y: saved(np.random.default_rng(1).permutation(y)),
    "the labels sorted": lambda y: saved(np.sort(y)),
    "a permutation": lambda y: repr(np.random.default_rng(2).permutation(len(y)).tolist()).encode(),
    "class numbers over and over": lambda y: repr(list(range(10)) * 500).encode(),
    "zeros": lambda y: bytes(100_000),
    "weights": lambda y: saved(np.random.default_rng(3).standard_normal((64, 64), np.float32)),
    "pixels": lambda y: (DIGITS / "train" / "inputs.npy").read_bytes(),
    "digits of powers": lambda y: "".join(str(pow(7, n, 10**9)) for n in range(3_000)).encode(),
    "random labels": lambda y: np.random.default_rng(4).integers(0, 10, 100_000).astype(np.uint8).tobytes(),
    "a few labels": lambda y: repr(listed(y[:50])).encode(),
}


@pytest.mark.parametrize("what", HONEST)
def test_an_honest_file_is_left_alone(digits: Lookups, labels: Labels, what: str) -> None:
    assert digits.findings({"models/constants.npy": HONEST[what](labels)}, {}) == []


def test_no_source_of_this_repository_looks_like_labels(digits: Lookups) -> None:
    sources = sorted((ROOT / "src" / "autolab" / "trials").glob("*.py"))[:12]
    assert digits.findings({path.name: path.read_bytes() for path in sources}, {}) == []


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(["list", "bytes", "hex", "npy"]))
def test_chance_makes_no_run(digits: Lookups, seed: int, form: str) -> None:
    y = np.random.default_rng(seed).integers(0, 10, 2000).astype(np.uint8)
    content = {"list": repr(listed(y)).encode(), "bytes": y.tobytes(), "hex": y.tobytes().hex().encode()}
    assert digits.label_counts(content.get(form, saved(y))) == {}


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
def test_any_bytes_are_read_without_an_error(digits: Lookups, content: bytes) -> None:
    assert digits.label_counts(content) == {}


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"PK\x03\x04" + bytes(40),
            b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'shape': (3,)}",
            b"\x1f\x8b\x08" + bytes(30),
        ),
        *(b"\x93NUMPY" + bytes(200), b"BZh91AY" + bytes(30), zlib.compress(bytes(1000))[:-9], b"\\x" * 900, b"'" * 900),
    ],
)
def test_a_broken_container_is_read_as_bytes(digits: Lookups, content: bytes) -> None:
    assert digits.label_counts(content) == {}


def test_what_unpacks_without_end_is_cut(digits: Lookups, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "UNPACKED", 200_000)
    bomb = gzip.compress(gzip.compress(bytes(50_000_000)))
    sizes = [len(piece.raw) for piece in pieces.pieces(bomb)]
    assert sum(sizes) <= 200_000


def test_what_cannot_be_searched_is_refused(digits: Lookups, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "SEARCHED", 100)
    (found,) = digits.findings({"a.py": b"x" * 60, "b.bin": b"x" * 70}, {})
    assert (found.check, found.file) == ("labels", "b.bin")
    assert (
        "more than the 100 bytes that can be searched for labels; leave out what a training can make" in found.message
    )


# Labels that say nothing


@pytest.mark.parametrize("kind", ["sorted", "alternating", "alike", "few", "text", "missing"])
def test_labels_without_information_are_not_looked_for(tmp_path: Path, kind: str) -> None:
    made = {"sorted": np.arange(500) // 50, "alternating": np.arange(500) % 2, "alike": np.zeros(500, int)}
    made |= {"few": np.arange(10), "text": np.array(["a", "b"] * 100)}
    if kind in made:
        np.save(tmp_path / "labels.npy", made[kind])
    known = Lookups([Split("eval", tmp_path / "labels.npy")])
    assert known.findings({"x.py": repr(made.get(kind, np.zeros(9)).tolist()).encode()}, {}) == []


def test_what_the_training_data_holds_too_may_be_known(tmp_path: Path) -> None:
    y = np.random.default_rng(5).integers(0, 10, 600)
    np.save(tmp_path / "labels.npy", y[:300])
    np.save(tmp_path / "train.npy", y)
    table = {"x.py": repr(y[:300].tolist()).encode()}
    split = Split("eval", tmp_path / "labels.npy")
    assert Lookups([split]).findings(table, {})
    assert not Lookups([split], [tmp_path / "train.npy"]).findings(table, {})


def test_what_the_base_held_already_is_not_the_candidates(digits: Lookups, labels: Labels) -> None:
    table = f"TABLE = {listed(labels[:300])}\n".encode()
    more = f"TABLE = {listed(labels)}\n".encode()
    assert digits.findings({"t.py": table + b"# more\n"}, {"t.py": table}) == []
    assert digits.findings({"t.py": more}, {"t.py": table})


def test_text_that_was_learned_by_heart_is_found(tmp_path: Path) -> None:
    words = random.Random(3)
    text = "".join(words.choice("etaoinshrdlu ,.\n") for _ in range(20_000))
    ids = {sign: n for n, sign in enumerate(sorted(set(text)))}
    tokens = np.array([ids[sign] for sign in text], np.uint8)
    np.save(tmp_path / "labels.npy", tokens[1:].reshape(-1, 19_999))
    known = Lookups([Split("eval", tmp_path / "labels.npy")])
    assert known.label_counts(f"TEXT = {text[2000:4000]!r}".encode())
    assert not known.label_counts(("".join(words.choice("etaoinshrdlu ,.\n") for _ in range(20_000))).encode())
