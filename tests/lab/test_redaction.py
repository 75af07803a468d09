"""Secrets leave by no door: by value, by shape, in pieces; and what the engine writes itself stays as it is.

The keys here are made when the tests run, so that the repository holds none.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lab_kit import (
    HELPS,
    NOTHING,
    LabKit,
    decision,
    design,
    docs,
    hypothesis,
    implementation,
    iteration,
    make_lab,
    make_twin,
    review,
    script,
)

from autolab.lab import redaction
from autolab.lab.ledger import Ledger
from autolab.lab.redaction import HOLD, Stream, clean, clean_file, clean_json, clean_value

HEX = "0123456789abcdef" * 2 + "01234567"
MIXED = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ"
SHAPES = {
    "openai": "sk-" + MIXED,
    "openai of old": "sk-" + "abcdefgh" * 6,
    "openai project": "sk-" + "proj-" + "aB3_-" * 16,
    "openrouter": "sk-" + "or-v1-" + HEX,
    "anthropic": "sk-" + "ant-api03-" + "aB3_-" * 16,
    "github classic": "ghp" + "_" + MIXED + MIXED[:10],
    "github server": "ghs" + "_" + MIXED + MIXED[:10],
    "github fine-grained": "github" + "_pat_" + MIXED[:22] + "_" + MIXED * 2,
    "hugging face": "hf" + "_" + MIXED + "abcdEFGH",
    "aws": "AK" + "IA" + "Q3RS5TUV7WXY2ZAB",
    "google": "AI" + "za" + "aB3-_" * 7,
    "slack": "xo" + "xb-" + "123456789012-" + MIXED,
    "jwt": "ey" + "JhbGciOiJIUzI1NiJ9." + "ey" + "JzdWIiOiIxMjM0In0." + MIXED,
    "private key": "-----BEGIN " + "RSA PRIVATE KEY-----\n" + (MIXED * 2 + "\n") * 12 + "-----END RSA PRIVATE KEY-----",
}
TOLD = {  # a secret only where it stands
    "wandb variable": ("WANDB_API" + "_KEY=", HEX),
    "wandb login": ("wandb " + "login ", HEX),
    "wandb json": ('"api' + '_key": "', HEX),
    "url": ("postgres" + "://pat:", "hunter2!"),
    "url with a token": ("https" + "://", MIXED),
    "bearer": ("Authorization: " + "Bearer ", "short-one"),
    "bearer in json": ('{"Authorization": "' + "Bearer ", MIXED),
    "aws secret": ("aws_secret" + "_access_key = ", MIXED + "/+" + MIXED[:12]),
}
AFTER = {"url": "@db/lab", "url with a token": "@example.org/x", "wandb json": '"}', "bearer in json": '"}'}
VALUE = 'p4ss word/with "signs"+' + "é"
PLAIN = "planted" + "-value-" + "7261"


@pytest.fixture(autouse=True)
def _planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two secrets in the environment, and nothing else of the user's."""
    for name in list(os.environ):
        if redaction._TELLING.search(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LAB_DB_PASSWORD", VALUE)
    monkeypatch.setenv("PLANTED_API_KEY", PLAIN)
    redaction._spellings.cache_clear()
    yield
    redaction._registered.clear()
    redaction._spellings.cache_clear()


def streamed(pieces: list[bytes]) -> bytes:
    stream = Stream()
    return b"".join(map(stream.feed, pieces)) + stream.finish()


# by shape


@pytest.mark.parametrize("name", SHAPES)
def test_a_key_is_known_by_its_shape_wherever_it_stands(name: str) -> None:
    key = SHAPES[name]
    for before, after in (("", ""), ("key ", " there\n"), ('{"a": "', '"}'), ("k=", ";"), ("(", ")"), ("a\n", "\r\nb")):
        told = clean(before + key + after)
        assert told.startswith(before + "[redacted:") and told.endswith("]" + after), told
        assert clean(told) == told


@pytest.mark.parametrize("name", TOLD)
def test_a_key_without_a_shape_is_known_by_the_word_before_it(name: str) -> None:
    before, secret = TOLD[name]
    told = clean(f"x {before}{secret}{AFTER.get(name, '')} y")
    assert told.startswith(f"x {before}[redacted:") and told.endswith(f"]{AFTER.get(name, '')} y"), told
    assert clean(told) == told


@pytest.mark.parametrize("name", [*SHAPES, *TOLD, "value", "plain"])
def test_a_key_is_found_wherever_a_stream_is_cut(name: str) -> None:
    before, secret = TOLD.get(name, ("", {"value": VALUE, "plain": PLAIN}.get(name) or SHAPES.get(name, "")))
    data = f"one line\ntwo {before}{secret}{AFTER.get(name, '')} three\nfour".encode()
    whole = clean(data.decode()).encode()
    assert secret.encode() not in whole
    for cut in range(len(data) + 1):
        assert streamed([data[:cut], data[cut:]]) == whole, cut
    assert streamed([bytes([sign]) for sign in data]) == whole


@pytest.mark.parametrize(
    "text",
    [
        f"commit {HEX}, sha256 {HEX}{HEX[:24]}",
        f"wandb was tried at commit {HEX}",
        f'{{"key": "lab-1.2026-02-12T23-30-00Z_h1.implementation-1.a1", "sha256": "{HEX}{HEX[:24]}"}}',
        "exp/h1-sk-learn-like-regularisation-of-the-weights task-wise-desk-lamp-over-all-layers",
        "seed 9223372036854775807, val_loss 0.1234567890123456789, 1e-12",
        "https://example.org:8080/a@b git@example.org:x/y.git ssh://git@example.org/x mailto:a@b.org 12:30:00 a@b",
        "The bearer of this token is the author; authorization comes first, the secret of a good key is its length.",
        "tokens per second: 123456789, API keys are read from the environment, password: none",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "def bearer(token: str, api_key: str = KEY) -> None: ...",
    ],
)
def test_ids_hashes_seeds_and_prose_stay_as_they_are(text: str) -> None:
    assert clean(text) is text
    assert streamed([text.encode()]) == text.encode()


# by value


@pytest.mark.parametrize("name", ["LAB_DB_PASSWORD", "PLANTED_API_KEY"])
def test_a_value_of_the_environment_is_found_in_each_of_its_spellings(name: str) -> None:
    value = os.environ[name]
    raw = value.encode()
    spellings = [value, quote(value, safe=""), json.dumps(value), json.dumps(value, ensure_ascii=False)]
    encoded = [base64.b64encode(b"x" * n + raw + b"y" * m) for n in range(4) for m in range(3)]
    encoded += [base64.urlsafe_b64encode(raw), base64.b64encode(raw).rstrip(b"=")]
    for spelling in [*spellings, *(one.decode() for one in encoded)]:
        told = clean(f"<{spelling}>")
        assert f"[redacted:{name}]" in told, spelling
    assert clean(f"<{base64.b64encode(raw).decode()}>") == f"<[redacted:{name}]>"


def test_a_secret_that_has_a_shape_too_has_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SHAPES["openai"])
    redaction._spellings.cache_clear()
    assert clean(f"Authorization: Bearer {SHAPES['openai']}") == "Authorization: Bearer [redacted:OPENAI_API_KEY]"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("HF_TOKEN", "abcd-1234", True),
        ("GITHUB_TOKEN_2", "abcd-1234", True),
        ("AWS_SECRET_ACCESS_KEY", "abcd-1234", True),
        ("MY_CREDENTIALS", "abcd-1234", True),
        ("DEPLOY_KEY", "abcd-1234", True),
        ("HF_TOKEN", "abc", False),
        ("TOKENIZERS_PARALLELISM", "abcd-1234", False),
        ("KEYBOARD", "abcd-1234", False),
        ("MONKEY", "abcd-1234", False),
        ("SECRET_FILE", "abcd-1234", False),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/passwd", False),
        ("HOME", "abcd-1234", False),
    ],
)
def test_a_variable_is_a_secret_by_its_name(
    name: str, value: str, secret: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    redaction._spellings.cache_clear()
    assert clean(f"it says {value} here") == (f"it says [redacted:{name}] here" if secret else f"it says {value} here")


def test_digits_alone_are_a_secret_only_where_they_stand_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIN_PASSWORD", "12345678")
    redaction._spellings.cache_clear()
    assert clean("pin 12345678, seed 9123456781") == "pin [redacted:PIN_PASSWORD], seed 9123456781"


def test_a_registered_value_is_a_secret_from_then_on() -> None:
    assert clean("by the name of rumpelstilz") == "by the name of rumpelstilz"
    redaction.register("config.yaml researcher", "rumpelstilz")
    assert clean("by the name of rumpelstilz") == "by the name of [redacted:config.yaml researcher]"


# what is given


def test_a_value_is_clean_in_its_keys_its_lists_and_by_what_its_keys_say() -> None:
    value = {"a": [PLAIN, 1, 2.5, None, True, {PLAIN: "x"}], "wandb_api_key": HEX, "commit": HEX}
    marker = "[redacted:PLANTED_API_KEY]"
    assert clean_value(value) == {
        "a": [marker, 1, 2.5, None, True, {marker: "x"}],
        "wandb_api_key": "[redacted:wandb key]",
        "commit": HEX,
    }


def test_json_is_clean_as_it_reads_however_its_signs_are_escaped() -> None:
    escaped = "".join(f"\\u{ord(sign):04x}" for sign in PLAIN)
    told = clean_json(f'{{"output": {{"plan": "use {escaped}"}}, "n": 1.0}}')
    assert json.loads(told) == {"output": {"plan": "use [redacted:PLANTED_API_KEY]"}, "n": 1.0}
    same = '{"a":   1,\n "a": 2, "b": "\\u00e9"}'
    assert clean_json(same) is same
    assert clean_json(f'{{"a": "{PLAIN}') == '{"a": "[redacted:PLANTED_API_KEY]'
    assert clean_json("[" * 100_000) == "[" * 100_000


def test_text_that_is_no_utf_8_is_given_back_as_it_was() -> None:
    odd = os.fsdecode(b"caf\xe9 " + PLAIN.encode() + b" \xff")
    assert clean(odd) == os.fsdecode(b"caf\xe9 [redacted:PLANTED_API_KEY] \xff")


# in pieces

PIECES = st.sampled_from(
    [*(SHAPES[name].encode() for name in ("openai", "jwt", "private key", "aws")), PLAIN.encode(), VALUE.encode()]
    + [f"{before}{secret}{AFTER.get(name, '')}".encode() for name, (before, secret) in TOLD.items()]
    + [b" ", b"\n", b"word", b"  and ", b"\xff\x00", b"-----BEGIN RSA ", b'"', b"authorization", b"sk-", b"=1\r\n"]
)


@given(st.lists(PIECES, max_size=12), st.lists(st.integers(0, 2_000), max_size=8))
@example([b"Authorization: Bearer short-one", b"x" * 29, b"x" * 29, b"x" * 29, SHAPES["jwt"].encode()], [174])
@example([b"-----BEGIN RSA ", SHAPES["private key"].encode()], [60])
def test_a_stream_says_the_same_however_it_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    redaction._spellings.cache_clear()
    data = b" ".join(parts)
    marks = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    pieces = [data[a:b] for a, b in itertools.pairwise(marks)]
    assert streamed(pieces) == streamed([data])
    assert PLAIN.encode() not in streamed(pieces) and VALUE.encode() not in streamed(pieces)


def test_a_stream_without_any_space_keeps_little_and_still_finds_what_is_cut() -> None:
    stream, out, most = Stream(), bytearray(), 0
    data = b"x" * 100_000 + PLAIN.encode() + b"y" * 50_000 + b"." + SHAPES["aws"].encode() + b"." + b"z" * 100_000
    for at in range(0, len(data), 1_000):
        out += stream.feed(data[at : at + 1_000])
        most = max(most, len(stream._waiting))
    out += stream.finish()
    assert most <= HOLD + 1_000
    assert bytes(out) == (
        b"x" * 100_000 + b"[redacted:PLANTED_API_KEY]" + b"y" * 50_000 + b".[redacted:aws key id]." + b"z" * 100_000
    )


def test_an_ordinary_line_leaves_at_once() -> None:
    stream = Stream()
    assert stream.feed(b"epoch 1 loss 0.5\nepoch 2 ") == b"epoch 1 loss 0.5\nepoch 2 "
    assert stream.feed(b"loss") == b"" and stream.finish() == b"loss"


# files


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    filler = b"a line of output\n" * (redaction.BLOCK // 17)
    file.write_bytes(filler + PLAIN.encode() + b"\n" + filler)  # across the end of the first block
    file.chmod(0o640)
    os.link(file, tmp_path / "other name")
    assert clean_file(file)
    assert file.read_bytes() == filler + b"[redacted:PLANTED_API_KEY]\n" + filler
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other name", "run.log"]


def test_a_clean_file_and_what_is_no_file_stay_untouched(tmp_path: Path) -> None:
    file, link, pipe = tmp_path / "run.log", tmp_path / "link", tmp_path / "pipe"
    file.write_bytes(b"nothing to hide\xff\x00")
    (tmp_path / "secret").write_text(PLAIN)
    link.symlink_to("secret")
    os.mkfifo(pipe)
    before = file.stat()
    assert [clean_file(path) for path in (file, link, pipe)] == [False, False, False]
    assert file.stat() == before and (tmp_path / "secret").read_text() == PLAIN


# the whole engine


def everything(kit: LabKit) -> Iterator[tuple[str, bytes]]:
    """Every file below the lab, and every object that its git holds."""
    for folder, _, names in os.walk(kit.root):
        for path in (Path(folder) / name for name in names):
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(kit.root)), path.read_bytes()
    argv = ["git", "cat-file", "--batch-all-objects", "--batch"]
    yield "git's objects", subprocess.run(argv, cwd=kit.root, capture_output=True, check=True).stdout


def held(kit: LabKit, secrets: list[str]) -> list[tuple[str, str]]:
    wanted = [secret.encode() for secret in secrets]
    wanted += [json.dumps(secret)[1:-1].encode() for secret in secrets]
    wanted += [base64.b64encode(PLAIN.encode())]
    return [(where, one.decode()) for where, data in everything(kit) for one in wanted if one in data]


SECRETS = [PLAIN, *SHAPES.values()]
SAID = " ".join([*SECRETS, base64.b64encode(PLAIN.encode()).decode(), "postgres" + "://pat:hunter2!@db"])


def telling() -> dict[str, list[dict[str, Any]]]:
    """An iteration whose every answer says all secrets wherever text may stand."""
    code = [{"path": "models/width.py", "content": f"WIDTH = 4.0\nKEYS = {SAID!r}\n"}]
    finding = {"check": "style", "severity": "advisory", "message": SAID}
    answers = iteration(
        hypothesis=[
            {"raw": f"no json: {SAID}"},
            hypothesis(
                f"A slope {PLAIN} {SHAPES['openai']}",
                mechanism=SAID,
                success=SAID,
                risk_bounds=[SAID],
                references=[SAID],
            ),
        ],
        design=design(description=SAID),
        implementation=[
            {"output": {"plan": SAID, "edits": [{"path": SAID, "search": SAID, "replace": SAID}]}},
            implementation(files=code, plan=SAID),
        ],
        implementation_review=review(finding),
        update_docs=docs(SAID, observation=SAID, inference=SAID, claim=SAID),
        decide_repeat=decision("new_hypothesis", SAID),
    )
    return {name: [one if "raw" in one else one | {"summary": SAID} for one in said] for name, said in answers.items()}


@pytest.mark.process
def test_what_a_scripted_researcher_says_is_nowhere_in_the_lab(tmp_path: Path) -> None:
    (tmp_path / "script.yaml").write_text(json.dumps(script(telling())))
    who = {"researcher": {"name": "scripted", "script": str(tmp_path / "script.yaml")}}
    (tmp_path / "made").mkdir()
    kit = make_lab(tmp_path / "made", {}, config=who)
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.err
    outputs = [ended, kit.autolab("status", "--json"), kit.autolab("registry", "--json"), kit.autolab("publish")]
    assert [one.code for one in outputs] == [0, 0, 0, 0], outputs
    assert held(kit, SECRETS) == []
    assert [one for one in SECRETS for ended in outputs if one in ended.out + ended.err] == []
    assert "[redacted:PLANTED_API_KEY]" in outputs[0].out
    (folder,) = kit.iterations()
    assert "[redacted:jwt]" in (folder / "hypothesis.md").read_text()
    assert json.loads((folder / "record.json").read_text())["status"] == "completed"


AGENT = """
import json, os, sys
from pathlib import Path
answers = json.loads(Path(sys.argv[1]).read_text())
key, stage = os.environ["PLANTED_API_KEY"], os.environ["AUTOLAB_STAGE"]
said = key + " " + answers["said"]
print(said)
sys.stderr.write("".join(c + ("\\n" if i % 40 == 39 else "") for i, c in enumerate(said)) + said)
Path(".autolab").mkdir(exist_ok=True)
Path("notes.txt").write_text(said)
Path("__pycache__").mkdir(exist_ok=True)
Path("__pycache__/ignored.txt").write_text(said)
if stage == "implementation":
    Path("models/width.py").write_text("WIDTH = 4.0\\nKEY = " + repr(key) + "\\n")
text = json.dumps(answers[stage]).replace("PLANTED", "".join("\\\\u%04x" % ord(c) for c in key))
Path(".autolab/agent_result.json").write_text(text)
"""


@pytest.mark.process
def test_what_an_agent_prints_writes_and_answers_is_nowhere_in_the_lab(tmp_path: Path) -> None:
    said = {name: answers[-1] for name, answers in iteration().items()}
    said["implementation"] = {"output": {"plan": "Set the slope. PLANTED"}}
    said["decide_repeat"] = decision("stop", "PLANTED")
    result = {"status": "complete", "summary": "PLANTED", "changed_files": [], "completion_token_seen": True}
    answers = {name: result | answer for name, answer in said.items()} | {"said": SAID}
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    (tmp_path / "agent.py").write_text(AGENT)
    command = f"{sys.executable} -S {tmp_path / 'agent.py'} {tmp_path / 'answers.json'}"
    who = {"name": "command", "command": command, "env": ["PLANTED_API_KEY"]}
    kit = make_twin(tmp_path, script(), config={"researcher": who})
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert held(kit, SECRETS) == []
    assert [one for one in SECRETS if one in ended.out + ended.err] == []
    assert "[redacted:PLANTED_API_KEY]" in kit.git(
        "show", f"{kit.events('candidate')[0]['data']['commit']}:models/width.py"
    )


def test_a_ledger_line_is_sealed_without_secrets(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.create("lab", tmp_path)
    line = ledger.append("trial", {"message": f"exit 1: {SAID}", "commit": HEX, "score": {"val_loss": 0.1}})
    assert line.data["commit"] == HEX and "[redacted:jwt]" in line.data["message"]
    assert ledger.check() == 1 and list(ledger.lines()) == [line]
    assert [one for one in SECRETS if json.dumps(one)[1:-1] in ledger.path.read_text()] == []


def printing(where: str) -> str:
    """A module that puts every secret together when it runs, so that its own text holds none."""
    halves = [[one[: len(one) // 2], one[len(one) // 2 :]] for one in SECRETS if "\n" not in one]
    return f"WIDTH = 4.0\nSAID = ' '.join(a + b for a, b in {halves!r})\n{where}\n"


@pytest.mark.process
def test_what_a_candidates_programs_print_is_nowhere_in_the_lab(tmp_path: Path) -> None:
    fails = printing("raise ValueError(SAID)")
    prints = printing("import sys; print(SAID); print(SAID * 3, file=sys.stderr)")
    answers = [{"path": "models/width.py", "content": text} for text in (fails, prints)]
    kit = make_twin(tmp_path, script(iteration(implementation=[implementation(files=[one]) for one in answers])))
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert any("[redacted:" in line["data"]["state"]["reason"] for line in kit.events("transition"))
    assert held(kit, [one for one in SECRETS if "\n" not in one]) == []
    assert [one for one in SECRETS if one in ended.out + ended.err] == []


@pytest.mark.process
def test_an_error_says_no_secret(tmp_path: Path) -> None:
    kit = LabKit(tmp_path, tmp_path / "count")
    ended = kit.autolab("status", "--dir", str(tmp_path / PLAIN))
    assert ended.code == 1 and ended.err.count("\n") == 1
    assert "[redacted:PLANTED_API_KEY]" in ended.err and PLAIN not in ended.err


@pytest.mark.process
def test_a_bug_shows_its_traceback_without_secrets() -> None:
    code = (
        "import os; from autolab.cli.command_line import main\n"
        "main(['--version']); raise ValueError(os.environ['PLANTED_API_KEY'])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "Traceback" in ended.stderr
    assert "ValueError: [redacted:PLANTED_API_KEY]" in ended.stderr and PLAIN not in ended.stderr


@pytest.mark.process
def test_nothing_that_an_honest_lab_records_is_changed(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS, NOTHING))
    ended = kit.autolab("loop", "--max-iterations", "2")
    assert ended.code == 0, ended.err
    told = [path for path, _ in everything(kit) if path.endswith((".json", ".jsonl", ".md", ".yaml", ".tsv", ".csv"))]
    assert any("ledger" in path for path in told) and any("run_manifest" in path for path in told)
    for path in told:
        for line in (kit.root / path).read_text().splitlines():
            assert clean(line) == line, path
    assert not any(b"[redacted:" in data for _, data in everything(kit))
