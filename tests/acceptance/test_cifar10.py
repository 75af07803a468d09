"""The cifar10 lab: where its data comes from and what can go wrong on the way, its splits, its models.

What the tests download is a small archive in the official form, from this machine. The test on the real pictures runs
where AUTOLAB_TEST_DATASETS names a folder that holds `cifar-10-batches-py`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import pty
import resource
import runpy
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cifar_kit import FOLDER, TEST, TRAIN, Server, archive, batch, batches, official
from picture_kit import Done, Trials, needs_torch, one_line, run

from autolab.cli import init
from autolab.lab.schemas.experiment import Summary

REAL = os.environ.get("AUTOLAB_TEST_DATASETS", "")
"""Read before the tests' own environment is made, which knows no AUTOLAB_* variable."""
LIMIT = 300_000
"""Bytes that a file may have where a test plays a full disk: less than the archive, and than the training pictures."""
FILES = batches()
WHOLE = archive(FILES)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """The files of the lab as `init` composes them, without data."""
    init.compose("cifar10", tmp_path / "lab")
    return tmp_path / "lab"


def prepare(lab: Path, *flags: str, full_disk: bool = False, **env: str) -> Done:
    command = [sys.executable, "-B", "prepare.py", *flags]
    return subprocess.run(
        command,
        cwd=lab,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=small_files if full_disk else None,
    )


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


def autolab_init(folder: Path, full_disk: bool = False, **env: str) -> Done:
    command = [sys.executable, "-m", "autolab", "init", str(folder), "--template", "cifar10", "--seed", "1"]
    return subprocess.run(
        command,
        cwd=folder.parent,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=small_files if full_disk else None,
    )


def unpacked(datasets: Path, files: dict[str, bytes]) -> Path:
    (datasets / FOLDER).mkdir(parents=True)
    for name, content in files.items():
        (datasets / FOLDER / name).write_bytes(content)
    return datasets


def split(lab: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    inputs, labels = (np.load(lab / "data" / name / f"{part}.npy", allow_pickle=False) for part in ("inputs", "labels"))
    return inputs, labels


# The way of the data.


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done, list[int]]:
    """A lab that `autolab init` made, with its data from the server; what it printed; what the server was asked."""
    folder = tmp_path_factory.mktemp("made") / "lab"
    with Server(WHOLE) as server:
        done = autolab_init(folder, **server.env)
    assert done.returncode == 0, done.stderr
    return folder, done, server.asked


@pytest.mark.process
def test_init_downloads_checks_and_splits_and_git_sees_no_data(made: tuple[Path, Done, list[int]]) -> None:
    lab, done, asked = made
    assert asked == [0]
    assert "cifar-10-python.tar.gz: 100% of 0.7 MB" in done.stdout
    assert "data/train: 200 pictures" in done.stdout and done.stderr == ""
    status = subprocess.run(["git", "status", "--porcelain"], cwd=lab, capture_output=True, text=True, check=True)
    assert status.stdout == ""
    tracked = subprocess.run(["git", "ls-files", "data"], cwd=lab, capture_output=True, text=True, check=True)
    assert tracked.stdout.split() == ["data/.gitignore", "data/README.md"]
    assert sorted(path.name for path in (lab / "data").iterdir() if path.name[0] != ".") == [
        "README.md",
        "cifar-10-python.tar.gz",
        "eval",
        "holdout",
        "train",
    ]


@pytest.mark.process
def test_splits_follow_from_the_pixels_alone_and_test_pictures_are_dealt_out_by_class(
    made: tuple[Path, Done, list[int]],
) -> None:
    lab, _, _ = made
    seen: list[str] = []
    for name, rows in {"train": 200, "eval": 30, "holdout": 30}.items():
        inputs, labels = split(lab, name)
        assert inputs.shape == (rows, 3, 32, 32) and inputs.dtype == np.uint8
        assert np.bincount(labels, minlength=10).tolist() == [rows // 10] * 10
        assert (inputs.mean(axis=(1, 2, 3)) // 10 == 2 * labels + 2).all(), "a picture lost its label"
        hashes = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in inputs]
        assert hashes == sorted(hashes)
        seen += hashes
    assert len(set(seen)) == 260


@pytest.mark.process
def test_prepare_again_downloads_nothing_and_makes_smaller_splits(made: tuple[Path, Done, list[int]]) -> None:
    whole, _, _ = made
    lab = whole.with_name("again")
    shutil.copytree(whole, lab)
    md5 = hashlib.md5(WHOLE).hexdigest()
    nowhere = {"AUTOLAB_CIFAR10_URL": "http://127.0.0.1:9/", "AUTOLAB_CIFAR10_MD5": md5}
    done = prepare(lab, "--train", "50", "--eval", "20", **nowhere)
    assert done.returncode == 0, done.stderr
    for name, rows in {"train": 50, "eval": 20, "holdout": 30}.items():
        assert (split(lab, name)[0] == split(whole, name)[0][:rows]).all()
    said = one_line(prepare(lab, "--train", "201", **nowhere))
    assert said == "prepare.py: --train: 201 pictures are asked for, there are 200; 0 takes all"
    assert len(split(lab, "train")[1]) == 50, "what was there stays"


@pytest.mark.process
def test_a_folder_of_unpacked_sets_is_read_in_place(made: tuple[Path, Done, list[int]], lab: Path) -> None:
    whole, _, _ = made
    datasets = unpacked(lab.parent / "sets", FILES)
    done = prepare(lab, AUTOLAB_DATASETS=str(datasets), AUTOLAB_CIFAR10_URL="http://127.0.0.1:9/")
    assert done.returncode == 0, done.stderr
    for name in ("train", "eval", "holdout"):
        assert (split(lab, name)[0] == split(whole, name)[0]).all()
    assert not list((lab / "data").glob("*.gz*"))


@pytest.mark.process
def test_a_file_that_python_3_wrote_is_read_too(lab: Path) -> None:
    def again(content: bytes, protocol: int) -> bytes:
        pixels = np.frombuffer(content[-4 - 40 * 3072 : -4], np.uint8).reshape(40, 3072)
        return pickle.dumps({b"data": pixels, b"labels": [row % 10 for row in range(40)]}, protocol)

    changed = {name: again(FILES[name], 2 + 2 * (number % 2)) for number, name in enumerate(TRAIN)}
    done = prepare(lab, AUTOLAB_DATASETS=str(unpacked(lab.parent / "sets", FILES | changed)))
    assert done.returncode == 0, done.stderr


@pytest.mark.process
def test_a_download_that_breaks_off_goes_on_where_it_was(lab: Path) -> None:
    with Server(WHOLE, cuts=(100_000, 200_000)) as server:
        done = prepare(lab, **server.env)
    assert done.returncode == 0, done.stderr
    assert server.asked == [0, 100_000, 300_000]
    assert "broke off at 0.1 MB, asking for the rest" in done.stdout
    assert (lab / "data" / "cifar-10-python.tar.gz").read_bytes() == WHOLE


@pytest.mark.process
def test_the_next_call_goes_on_with_what_the_last_one_got(lab: Path) -> None:
    with Server(WHOLE, cuts=(100_000, 0)) as server:
        said = one_line(prepare(lab, **server.env))
        assert "closed early after 0.1 MB; run again, it goes on from there" in said
        assert prepare(lab, **server.env).returncode == 0
    assert server.asked == [0, 100_000, 100_000]


@pytest.mark.process
def test_a_server_that_knows_no_ranges_sends_the_whole_again(lab: Path) -> None:
    with Server(WHOLE, cuts=(100_000,), ranges=False) as server:
        assert prepare(lab, **server.env).returncode == 0
    assert server.asked == [0, 0]


@pytest.mark.process
def test_a_whole_part_file_is_only_checked(lab: Path) -> None:
    (lab / "data" / "cifar-10-python.tar.gz.part").write_bytes(WHOLE)
    with Server(WHOLE) as server:
        assert prepare(lab, **server.env).returncode == 0
    assert server.asked == [len(WHOLE)]


@pytest.mark.process
def test_a_terminal_sees_one_line_that_moves(lab: Path) -> None:
    ours, theirs = pty.openpty()
    with Server(WHOLE) as server:
        env = {**os.environ, **server.env}
        done = subprocess.run([sys.executable, "-B", "prepare.py"], cwd=lab, env=env, stdout=theirs, timeout=60)
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as screen:
        shown = screen.read(100_000).decode()
    assert done.returncode == 0
    first = shown.partition("\n")[0]
    assert first.count("\r\n") == 0 and first.count("\rcifar-10-python.tar.gz: ") >= 2
    assert "100% of 0.7 MB" in first


# What can be wrong with it.


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


def link() -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


def floats() -> bytes:
    return pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}, 2)


NO_BATCH = "no batch file of CIFAR-10"
BAD_FILES: dict[str, tuple[bytes | tarfile.TarInfo, str]] = {
    "random bytes": (np.random.default_rng(0).bytes(5000), NO_BATCH),
    "an empty file": (b"", NO_BATCH),
    "half a file": (batch(40, 1)[:50_000], NO_BATCH),
    "a pickle that runs a program": (pickle.dumps({"data": Bomb()}), "it names posix.system, which is no data"),
    "one that runs it in the old form": (pickle.dumps({b"data": Bomb()}, 0), "it names posix.system, which is no data"),
    "numbers of another type": (floats(), "an array of type f8"),
    "another shape": (official(np.zeros((2, 3000), np.uint8), [0, 1]), NO_BATCH),
    "a label too many": (official(np.zeros((2, 3072), np.uint8), [0, 1, 2]), "2 pictures, labels int64 [3]"),
    "a label that is none": (official(np.zeros((2, 3072), np.uint8), [0, 10]), "labels 0..10"),
    "a link": (link(), "is no plain file"),
}


@pytest.mark.process
@pytest.mark.parametrize("case", BAD_FILES)
def test_a_batch_file_that_is_none_is_named_and_not_run(lab: Path, case: str) -> None:
    content, said = BAD_FILES[case]
    with Server(archive({**FILES, "data_batch_2": content})) as server:
        line = one_line(prepare(lab, **server.env))
    assert line.startswith("prepare.py: ") and f"{FOLDER}/data_batch_2" in line and said in line
    assert nothing_made(lab)


@pytest.mark.process
@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds no folder cifar-10-batches-py; unpack it there, or unset the variable"),
        ({**FILES, TEST: b"not a pickle"}, f"{FOLDER}/{TEST}: {NO_BATCH}"),
        ({TEST: FILES[TEST]}, "data_batch_1: no such file; unpack the whole archive there"),
    ],
)
def test_a_folder_of_sets_without_the_files_is_refused(lab: Path, files: dict[str, bytes], said: str) -> None:
    datasets = unpacked(lab.parent / "sets", files) if files else lab.parent
    assert said in one_line(prepare(lab, AUTOLAB_DATASETS=str(datasets)))
    assert nothing_made(lab)


def cut_off(server: Server) -> dict[str, str]:
    """The server sends the first half of what the checksum is of, as if that were all."""
    env = server.env
    server.content = server.content[: len(server.content) // 2]
    return env


BAD_WAYS: dict[str, tuple[Callable[[Server], dict[str, str]], str]] = {
    "cut off": (cut_off, "cut off, damaged or another file; run again"),
    "another checksum": (lambda server: server.env | {"AUTOLAB_CIFAR10_MD5": "0" * 32}, "instead of md5:00000000"),
    "refused": (lambda server: server.env | {"AUTOLAB_CIFAR10_URL": "http://127.0.0.1:9/x"}, "Connection refused"),
    "not an address": (lambda server: server.env | {"AUTOLAB_CIFAR10_URL": "/tmp/x"}, "not an http or https address"),
}


@pytest.mark.process
@pytest.mark.parametrize("case", BAD_WAYS)
def test_an_archive_that_does_not_come_is_said_in_one_line(lab: Path, case: str) -> None:
    change, said = BAD_WAYS[case]
    with Server(WHOLE) as server:
        line = one_line(prepare(lab, **change(server)))
    assert line.startswith("prepare.py: ") and said in line
    assert nothing_made(lab) and not list((lab / "data").glob("*.gz*"))


@pytest.mark.process
def test_an_answer_that_is_no_file_is_said(lab: Path) -> None:
    with Server(WHOLE, status=404) as server:
        assert "the server answers 404 Not Found" in one_line(prepare(lab, **server.env))


@pytest.mark.process
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (WHOLE[:200_000], "no whole .tar.gz archive"),
        (b"an error page", "no whole .tar.gz archive"),
        (archive({}), "holds no cifar-10-batches-py/data_batch_1"),
    ],
)
def test_an_archive_that_holds_no_set_is_refused_though_its_checksum_is_right(
    lab: Path, content: bytes, said: str
) -> None:
    with Server(content) as server:
        assert said in one_line(prepare(lab, **server.env))
    assert nothing_made(lab)


@pytest.mark.process
def test_a_damaged_archive_in_its_place_is_named_and_left_to_the_user(lab: Path) -> None:
    mine = lab / "data" / "cifar-10-python.tar.gz"
    mine.write_bytes(WHOLE[:1000])
    with Server(WHOLE) as server:
        line = one_line(prepare(lab, **server.env))
    assert f"{mine}: md5:" in line and "delete it, run again" in line
    assert mine.read_bytes() == WHOLE[:1000] and server.asked == []


@pytest.mark.process
def test_a_full_disk_keeps_what_was_received_and_the_next_call_goes_on(lab: Path) -> None:
    with Server(WHOLE) as server:
        line = one_line(prepare(lab, full_disk=True, **server.env))
        assert "cifar-10-python.tar.gz.part: File too large after 0.3 MB; make room, run again" in line
        assert nothing_made(lab)
        assert prepare(lab, **server.env).returncode == 0
    assert server.asked == [0, LIMIT]


def test_a_download_that_cannot_fit_is_not_begun(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = runpy.run_path(str(lab / "fetch.py"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(WHOLE) as server:
        address, path = server.env["AUTOLAB_CIFAR10_URL"], lab / "data" / "cifar-10-python.tar.gz"
        with pytest.raises(program["FetchError"], match=r"needs 0.7 MB, 0.0 MB are free; make room, run again"):
            program["fetch"](address, path, f"md5:{'0' * 32}")
    assert nothing_made(lab) and not list(path.parent.glob("*.gz*"))


@pytest.mark.process
def test_a_disk_that_is_full_for_the_splits_leaves_none(lab: Path) -> None:
    datasets = unpacked(lab.parent / "sets", FILES)
    line = one_line(prepare(lab, full_disk=True, AUTOLAB_DATASETS=str(datasets)))
    assert "File too large; make room or access, run again" in line
    assert nothing_made(lab)


@pytest.mark.process
@pytest.mark.parametrize(
    ("case", "full_disk", "said"),
    [("cut off", False, "cut off, damaged"), ("refused", False, "Connection refused"), (None, True, "File too large")],
)
def test_init_says_in_one_line_that_the_lab_is_made_and_its_data_is_not(
    tmp_path: Path, case: str | None, full_disk: bool, said: str
) -> None:
    lab = tmp_path / "lab"
    with Server(WHOLE) as server:
        env = BAD_WAYS[case][0](server) if case else server.env
        line = one_line(autolab_init(lab, full_disk=full_disk, **env))
    assert line.startswith(f"autolab: {lab}: the lab is made, its data is not: prepare.py: ") and said in line
    assert line.endswith("; `python prepare.py` in the lab goes on")
    assert nothing_made(lab)
    assert (lab / ".git" / "autolab" / "head").exists()
    with Server(WHOLE) as server:
        done = prepare(lab, **server.env)
    assert done.returncode == 0, done.stderr
    assert len(split(lab, "train")[1]) == 200


def nothing_made(lab: Path) -> bool:
    """No split, no half of one, and no trace of a program that a file asked for."""
    left = {path.name for path in (lab / "data").iterdir()} - {"README.md", ".gitignore"}
    assert {name.removesuffix(".part") for name in left} <= {"cifar-10-python.tar.gz"}, left
    return not (lab / "ran").exists() and not (lab.parent / "ran").exists()


# The models.


@pytest.mark.process
@needs_torch
def test_both_baselines_train_predict_and_are_scored(made: tuple[Path, Done, list[int]], tmp_path: Path) -> None:
    trials = Trials(made[0], tmp_path)
    for model, given in {"cnn_basic": {"epochs": 5, "lr": 0.005}, "resnet18": {"epochs": 1, "width": 4}}.items():
        trial = trials.train(1, model, model=model, subset=150, batch_size=32, **given)
        history = [json.loads(line) for line in (trial / "history.jsonl").read_text().splitlines()]
        assert [point["step"] for point in history] == [5 * epoch for epoch in range(1, given["epochs"] + 1)]
        result = trials.result(trial)
        assert set(result) == {"val_loss", "accuracy", "f1"} and math.isfinite(result["val_loss"])
        if model == "cnn_basic":
            assert result["accuracy"] > 0.3, "a class is a level of grey: easily told apart"


@pytest.mark.process
@needs_torch
def test_resnet18_with_64_channels_has_as_many_parameters_as_the_papers(lab: Path, tmp_path: Path) -> None:
    done = run("train.py", lab, "--summary", "--model", "resnet18", "--width", "64", trial_dir=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = Summary.load(tmp_path / "summary.json")
    assert (summary.input_shape, summary.output_shape) == ((3, 32, 32), (10,))
    assert summary.parameters == 11_173_962
    convolutions = [layer["shape"] for layer in summary.layers if layer["type"] == "Conv2d"]
    assert len(convolutions) == 1 + 16 + 3
    assert convolutions[0] == [64, 32, 32] and convolutions[-1] == [512, 4, 4]


@needs_torch
@pytest.mark.skipif(not REAL, reason="AUTOLAB_TEST_DATASETS names no folder with the real cifar-10-batches-py")
def test_the_real_pictures_are_learnt(lab: Path, tmp_path: Path) -> None:
    done = prepare(lab, "--train", "2000", "--eval", "1000", "--holdout", "10", AUTOLAB_DATASETS=REAL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        f"data/{name}: {rows} pictures" for name, rows in (("train", 2000), ("eval", 1000), ("holdout", 10))
    ]
    trials = Trials(lab, tmp_path / "trials")
    assert trials.result(trials.train(0, "real", subset=0, epochs=2))["accuracy"] > 0.25
