"""What of the lab's source a prompt quotes: what may be changed, the most relevant first, within its room."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autolab.lab.schemas.config import Config
from autolab.researchers import excerpts, prompts

CONFIG = Config.from_text(
    "metric: {primary: a, direction: minimize, success_delta: 1}\ndata: data/train\n"
    "predict: {command: '{python} predict.py'}\nevaluate: {script: eval.py, eval: data/eval}\n",
    "config.yaml",
)
ROOM = prompts.LIMITS["files"]


def lab(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def heads(text: str) -> list[str]:
    """The files that are quoted whole, in order."""
    return [line[4:-4] for line in text.splitlines() if line.startswith("=== ") and "not quoted" not in line]


def listed(text: str) -> list[str]:
    return text.split("\n===")[0].strip().splitlines()[1:]


def test_files_that_are_not_the_candidates_and_data_are_neither_listed_nor_quoted(tmp_path: Path) -> None:
    lab(
        tmp_path,
        train_dot_py="a = 1\n",
        eval_dot_py="SECRET\n",
        program_dot_md="SECRET\n",
        data__train__x_dot_txt="SECRET\n",
        data__eval__labels_dot_py="SECRET\n",
        human_journal_dot_md="SECRET\n",
        results_dot_tsv="SECRET\n",
        paper__paperbanana_dot_md="SECRET\n",
        _dot_autolab__config_dot_yaml="SECRET\n",
        weights_dot_npy=b"SECRET",
    )
    text = excerpts.quotation(tmp_path, CONFIG, "")
    assert listed(text) == ["train.py (6 bytes)"]
    assert text.endswith("\n=== train.py ===\na = 1\n") and "SECRET" not in text
    assert "program.md" in excerpts.quotation(tmp_path, CONFIG, "", unlocked=True), "what META_MODE opens"


def test_a_file_that_is_no_text_or_empty_is_listed_and_not_quoted(tmp_path: Path) -> None:
    lab(tmp_path, a_dot_py="x\n", picture_dot_png=b"\x89PNG\0\xff", latin_dot_txt=b"caf\xe9", empty_dot_py="")
    text = excerpts.quotation(tmp_path, CONFIG, "")
    assert heads(text) == ["a.py"] and len(listed(text)) == 4


def test_where_room_is_short_what_is_named_is_taken_first_then_source_then_the_rest_the_smallest_first(
    tmp_path: Path,
) -> None:
    lab(
        tmp_path,
        big_dot_py="b" * 9_000,
        small_dot_py="s",
        notes_dot_md="n" * 2_000,
        models__cnn_dot_py="c" * 20_000,
        models__rnn_dot_py="r" * 12_000,
        ain_dot_py="a" * 2,
    )
    # All are shown by name, so that one choice of files gives one text.
    request = "Change models/cnn.py; not main.py, ain.pyx or xain.py."
    assert heads(excerpts.quotation(tmp_path, CONFIG, request)) == [
        "ain.py",
        "big.py",
        "models/cnn.py",
        "notes.md",
        "small.py",
    ]
    assert heads(excerpts.quotation(tmp_path, CONFIG, "fix rnn.py")) == [
        "ain.py",
        "big.py",
        "models/rnn.py",
        "notes.md",
        "small.py",
    ]


def test_what_does_not_fit_is_named_and_smaller_files_still_fit(tmp_path: Path) -> None:
    lab(tmp_path, a_dot_py="a" * 30_000, b_dot_py="b" * 20_000, c_dot_py="c" * 5_000, huge_dot_py="h" * 70_000)
    text = excerpts.quotation(tmp_path, CONFIG, "a.py")
    assert heads(text) == ["a.py", "c.py"]
    assert text.endswith("=== not quoted for want of room: b.py ===\n")
    assert "huge.py (70,000 bytes)" in text and len(text) <= ROOM


@pytest.mark.parametrize("count", [2_000])
def test_a_list_that_is_too_long_says_how_many_more_there_are(tmp_path: Path, count: int) -> None:
    lab(tmp_path, **{f"m{number:04}_dot_py": "x\n" for number in range(count)})
    text = excerpts.quotation(tmp_path, CONFIG, "m1999.py")
    names = [line for line in listed(text) if line.startswith("m")]
    assert f"and {count - len(names)} more" in text
    assert heads(text)[-1] == "m1999.py" and len(text) <= ROOM


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 50_000), st.booleans()), max_size=12))
def test_it_never_takes_more_than_its_room(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[int, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("lab")
    for number, (size, wide) in enumerate(files):
        (folder / f"{'n' * 100}{number}.py").write_text("\u00e9" * (size // 2) if wide else "x" * size)
    text = excerpts.quotation(folder, CONFIG, f"{'n' * 100}0.py")
    assert len(text) <= ROOM and "left out" not in prompts.render("{{files}}", {"files": text})
