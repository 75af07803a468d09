"""Data of several places: hashed together, linked where the program looks, with keys and foreign files left alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import cast

import pytest

from autolab.lab.git import Git
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.data_entry import DataEntry
from autolab.sandbox import execute
from autolab.sandbox.box import Box
from autolab.sandbox.environment import SYSTEM_PATH
from autolab.trials import bound_data
from autolab.trials.bound_data import BoundData
from autolab.trials.job import COPYING, copy_folder, link_words
from autolab.trials.seal import Seals


def bound(path: str, sha256: str, at: str | None = None) -> BoundData:
    return BoundData(DataEntry(path=path, at=at), Path("/lab") / path, sha256)


def test_one_folder_where_it_lies_has_its_own_hash_and_any_other_data_one_of_places_and_contents() -> None:
    assert bound_data.combined_sha256([bound("data", "a" * 64)]) == "a" * 64
    hashes = {
        bound_data.combined_sha256(everything)
        for everything in (
            [bound("data", "a"), bound("more", "b")],
            [bound("data", "b"), bound("more", "a")],
            [bound("data", "a", "elsewhere")],
            [bound("data", "a", "other")],
        )
    }
    assert len(hashes) == 4


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".cache" / "huggingface"
    (folder / "hub").mkdir(parents=True)
    (folder / "hub" / "model.bin").write_text("weights")
    for name in ("token", "stored_tokens"):
        (folder / name).write_text("hf_key")
    return folder


def test_keys_beside_a_cache_are_covered_and_no_part_of_its_hash(cache: Path, tmp_path: Path) -> None:
    keys = {str(cache / "token"), str(cache / "stored_tokens")}
    assert set(bound_data.secrets_within(cache)) == set(bound_data.secrets_within(cache.parent)) == keys
    seals = Seals(tmp_path / "exports", tmp_path / "seals")
    without = frozenset({"token", "stored_tokens"})
    before = seals.add_own("cache", cache, without)
    (cache / "token").write_text("another key")
    assert seals.broken() == "" and seals.add_own("cache", cache, without) == before
    (cache / "hub" / "model.bin").write_text("other weights")
    assert "hub/model.bin was changed" in seals.broken()


def test_a_moved_cache_with_keys_is_known_by_what_lies_in_it(cache: Path, tmp_path: Path) -> None:
    moved = tmp_path / "big" / "cache"
    moved.parent.mkdir()
    cache.rename(moved)
    assert {Path(path).name for path in bound_data.secrets_within(moved)} == {"token", "stored_tokens"}
    (moved / "hub" / "model.bin").unlink()
    (moved / "hub").rmdir()
    assert bound_data.secrets_within(moved) == (), "a file called token alone is data"


def test_libraries_of_a_bound_cache_are_told_to_stay_offline(cache: Path) -> None:
    entry = DataEntry(path="~/.cache/huggingface")
    variables = bound_data.offline_variables([BoundData(entry, cache, "")])
    assert variables["HF_HUB_OFFLINE"] == variables["HF_DATASETS_OFFLINE"] == variables["TRANSFORMERS_OFFLINE"] == "1"
    assert bound_data.offline_variables([bound("data", "a")]) == {}


class NoCommit:
    def has_path(self, commit: str, path: str) -> str | None:
        return None


def test_all_problems_with_the_data_are_said_at_once(cache: Path, tmp_path: Path) -> None:
    root = tmp_path / "lab"
    (root / "data").mkdir(parents=True)
    (root / "data" / "outside").symlink_to(cache / "hub")
    value = f"[nowhere, data, '{tmp_path}', {{path: data, at: /data/x}}]"
    head = "metric: {primary: loss, direction: minimize, success_delta: 0.1}\ncontainment: partial\n"
    text = f"{head}train: {{command: x, in_copy: true}}\ndata: {value}\n"
    config = Config.from_text(text, "config.yaml")
    told = list(bound_data.problems(cast(Git, NoCommit()), root, "", config))
    assert [line.partition(": ")[2] if line.startswith(".") else line for line in told] == [
        "data: nowhere: no such file or folder on this machine; put it there, or change the path",
        f"{root}/data/outside: a link to {cache}/hub, which trials do not see: add {cache} to data",
        f"data: {tmp_path} holds your home; name the folder that the program needs",
        f"data: data at /data/x: containment partial shows data only where it lies; make a link once: ln -s {root}/data"
        " /data/x, or use containment: full",
    ]


def test_the_copy_of_the_code_lies_so_deep_that_data_above_it_has_a_place() -> None:
    assert copy_folder([DataEntry(path="data")]) == "copy"
    assert copy_folder([DataEntry(path="../../data")]) == "copy/repository/repository"


def linked(tmp_path: Path, entries: list[DataEntry], sources: list[Path]) -> subprocess.CompletedProcess[str]:
    """The links made in `tmp_path/copy`, with `tmp_path/home` as the home."""
    (tmp_path / "copy").mkdir(exist_ok=True)
    (tmp_path / "home").mkdir()
    words = link_words(entries, in_copy=True)
    places = {"{data}" if number == 0 else f"{{data{number}}}": str(path) for number, path in enumerate(sources)}
    places["{scratch}"] = str(tmp_path / "home")
    script = f"set -e; links=$1; shift\n{bound_data.LINKING}"
    arguments = [str(len(words) // 4), *(places.get(word, word) for word in words)]
    return subprocess.run(
        ["/bin/sh", "-c", script, "sh", *arguments], cwd=tmp_path / "copy", capture_output=True, text=True, check=False
    )


@pytest.mark.process
def test_links_lead_to_each_place_and_never_change_the_data(tmp_path: Path) -> None:
    for name in ("outer/inner/old.txt", "outer/b.txt", "top/data/made.bin", "cache/hub/w.bin", "one.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "copy" / "data").mkdir(parents=True)
    (tmp_path / "copy" / "data" / "code.py").write_text("committed")
    entries = [
        DataEntry(path="/outer", at="corpus"),
        # Two places within others: what lies there must stay as it is.
        DataEntry(path="/cache", at="corpus/inner"),
        DataEntry(path="/top", at="."),
        DataEntry(path="/cache", at="~/.cache/torch"),
        DataEntry(path="/one.txt", at="data/deep/one name.txt"),
    ]
    sources = [tmp_path / name for name in ("outer", "cache", "top", "cache", "one.txt")]
    before = sorted((path, path.is_file() and path.read_text()) for path in tmp_path.glob("[!ch]*/**/*"))
    done = linked(tmp_path, entries, sources)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    copy, home = tmp_path / "copy", tmp_path / "home"
    assert (copy / "corpus" / "b.txt").read_text() == "outer/b.txt"
    assert (copy / "corpus" / "inner" / "hub" / "w.bin").is_file() and not (copy / "corpus/inner/old.txt").exists()
    assert (copy / "data" / "made.bin").is_file() and (copy / "data" / "code.py").read_text() == "committed"
    assert (copy / "data" / "deep" / "one name.txt").read_text() == "one.txt"
    weights = home / ".cache" / "torch" / "hub" / "w.bin"
    assert weights.is_symlink() and not weights.parent.is_symlink() and os.access(weights.parent, os.W_OK)
    assert sorted((path, path.is_file() and path.read_text()) for path in tmp_path.glob("[!ch]*/**/*")) == before


@pytest.mark.process
@pytest.mark.parametrize("level", ["full", "partial"])
def test_the_copy_of_read_only_code_can_be_written_to_at_every_level(tmp_path: Path, level: str) -> None:
    code = tmp_path / "code"
    (code / "pkg").mkdir(parents=True)
    (code / "pkg" / "x.py").write_text("1")
    (code / "run.sh").write_text("#!/bin/sh\necho ran\n")
    for path, mode in ((code / "pkg" / "x.py", 0o444), (code / "run.sh", 0o555), (code / "pkg", 0o555), (code, 0o555)):
        path.chmod(mode)
    (tmp_path / "own").mkdir()
    text = f"code=$1 copy=$2{COPYING}cd $copy && ./run.sh && echo 2 >> pkg/x.py && echo 3 > pkg/y && cat pkg/x.py"
    arguments = ["/bin/sh", "-c", text, "sh", str(code), str(tmp_path / "own" / "copy")]
    box = Box(level=level, reads=(str(code),), writes=(str(tmp_path / "own"),))
    ended = execute.run(arguments, code, {"PATH": SYSTEM_PATH}, tmp_path / "logs" / "log", 60, box)
    assert (ended.code, ended.tail) == (0, "ran\n12")
