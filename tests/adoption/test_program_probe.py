"""The first run of an adopted program: contained like a trial, short, and nothing of the checkout changes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab_kit import LabKit

from autolab.lab.schemas.config import Config

pytestmark = pytest.mark.process

TRAIN = """\
import os, sys, time, socket
print("seed", os.environ["AUTOLAB_SEED"])
with open("data/part/rows.bin", "rb") as file:
    rows = len(file.read())
with open("scratch.txt", "w") as file:
    file.write("left beside itself")
try:
    socket.getaddrinfo("data.example", 443)
except OSError as error:
    print("network:", error, file=sys.stderr)
print(f"val_loss: {1 / rows:.4f}")
"""


def make(root: Path, text: str, ignored: str = "*.bin\n") -> LabKit:
    (root / "data" / "part").mkdir(parents=True)
    (root / "train.py").write_text(text)
    (root / "data" / "part" / "readme.md").write_text("committed beside the data\n")
    (root / ".gitignore").write_text(ignored)
    kit = LabKit(root, root.parent / "count.txt")
    kit.git("init", "--quiet")
    kit.git("add", "--all")
    kit.git("commit", "--quiet", "--message", "mine")
    (root / "data" / "part" / "rows.bin").write_bytes(b"12345678")
    return kit


def files_of(root: Path) -> dict[str, bytes]:
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and ".git" not in path.relative_to(root).parts:
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


def test_data_beside_committed_files_is_bound_and_the_checkout_stays_as_it_was(tmp_path: Path) -> None:
    kit = make(tmp_path / "mine", TRAIN)
    before = files_of(kit.root)
    made = kit.autolab("init", "--from-existing", "--seed", "1")
    assert made.code == 0, made.out + made.err
    assert (
        "data/part/rows.bin: not there; git does not hold it: data/part is bound as the data" in made.out
        and made.out.count("trying ") == 2
    )
    assert re.search(r"ended after \d+ s, without an error", made.out)
    assert Config.load(kit.root / Config.FILE).data == "data/part"
    after = files_of(kit.root)
    assert {path: after[path] for path in before} == before and "scratch.txt" not in after
    assert not (kit.root / ".git" / "autolab.probe").exists()


VANDAL = """\
import os, shutil, sys
root = {root!r}
print(len(open("data/part/rows.bin").read()))
for path in ("train.py", "new.txt", "data/part/rows.bin", "data/part/new.bin", f"{root}/train.py", f"{root}/new.txt",
             f"{root}/data/part/rows.bin", f"{root}/.git/config", f"{root}/.git/HEAD"):
    try:
        with open(path, "a") as file:
            file.write("changed")
    except OSError as error:
        print(path, error, file=sys.stderr)
for path in ("train.py", "data/part/rows.bin", f"{root}/train.py", f"{root}/data/part/rows.bin"):
    try:
        os.remove(path)
    except OSError as error:
        print(path, error, file=sys.stderr)
shutil.rmtree(f"{root}/data", ignore_errors=True)
os.makedirs("build", exist_ok=True)
for name, number in {"one": 1, "two": 2}.items():
    print(name, number)
"""


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of every file, git's own too; without the index, which `git status` refreshes."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.name not in ("index", "autolab.adoption.json"):
            found[str(path.relative_to(root))] = path.stat().st_mode, path.read_bytes()
    return found


def test_a_program_that_writes_everywhere_leaves_the_checkout_and_git_as_they_were(tmp_path: Path) -> None:
    """The lab is refused afterwards, so that nothing but the run could have changed anything."""
    kit = make(tmp_path / "mine", VANDAL.replace("{root!r}", repr(str(tmp_path / "mine"))))
    status = ("status", "--porcelain", "--ignored", "--untracked-files=all")
    before, said = everything(kit.root), kit.git(*status)
    assert "data/part/rows.bin" in said
    made = kit.autolab("init", "--from-existing", "--seed", "1")
    assert made.code == 2 and made.out.count("trying") == 2, made.out + made.err
    assert '--metric "one"  1 value, last 1' in made.out, "it came to its end"
    assert everything(kit.root) == before and kit.git(*status) == said
    assert sorted(path.name for path in (kit.root / ".git").glob("autolab*")) == ["autolab.adoption.json"]


def test_what_is_missing_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    kit = make(tmp_path / "mine", "import a_module_that_nobody_has\nprint(f'val_loss: {1}')\n")
    before = files_of(kit.root)
    made = kit.autolab("init", "--from-existing", "--seed", "1")
    assert made.code == 1
    assert "missing: " in made.out and "has no module a_module_that_nobody_has: install it there" in made.out
    assert made.err.count("\n") == 1 and "one thing is missing, see above" in made.err
    assert files_of(kit.root) == before
    again = kit.autolab("init", "--from-existing", "--seed", "1", "--probe-seconds", "0")
    assert again.code == 0 and "trying" not in again.out


def test_a_long_training_is_ended_at_the_limit(tmp_path: Path) -> None:
    text = "import time\nprint('val_loss: 1.5', flush=True)\ntime.sleep(600)\n"
    kit = make(tmp_path / "mine", text.replace("'val_loss: 1.5'", "f'val_loss: {1.5}'"))
    made = kit.autolab("init", "--from-existing", "--seed", "1", "--probe-seconds", "2")
    assert made.code == 0, made.out + made.err
    assert re.search(r"still running after [2-9] s, without an error", made.out)


STEPS = """\
import sys
for step in range(3):
    print(f"step {step}: train loss {3 - step:.4f}, val loss {3.5 - step:.4f}")
print(f"acc={0.5:.2f}", file=sys.stderr)
"""


def test_the_one_number_that_could_decide_is_the_metric(tmp_path: Path) -> None:
    kit = make(tmp_path / "mine", STEPS.replace("acc=", "took "))
    made = kit.autolab("init", "--from-existing", "--seed", "1")
    assert made.code == 0, made.out + made.err
    config = Config.load(kit.root / Config.FILE)
    assert (config.metric.primary, config.metric.direction, config.train.metrics) == ("val loss", "minimize", "stdout")
    assert "it printed 3 values there, the last one 1.5000" in made.out


def test_of_several_numbers_the_user_is_asked_with_their_values(tmp_path: Path) -> None:
    kit = make(tmp_path / "mine", STEPS + "print(f'f1={0.25:.2f}')\n")
    made = kit.autolab("init", "--from-existing", "--seed", "1")
    assert made.code == 2 and made.err.count("\n") == 1 and "--metric: name the number that decides" in made.err
    assert '  --metric "val loss"  3 values, last 1.5000\n' in made.out
    assert '  --metric "f1"  1 value, last 0.25\n' in made.out and '"acc"  1 value, last 0.50\n' in made.out
    assert not (kit.root / ".autolab").exists()
    named = kit.autolab("init", "--from-existing", "--seed", "1", "--metric", "acc")
    assert named.code == 0, named.out + named.err
    assert Config.load(kit.root / Config.FILE).train.metrics == "stderr", "where the run printed it"


def test_a_metric_that_a_whole_training_did_not_print_is_refused_with_what_it_printed(tmp_path: Path) -> None:
    kit = make(tmp_path / "mine", STEPS)
    made = kit.autolab("init", "--from-existing", "--seed", "1", "--metric", "bleu", "--direction", "maximize")
    assert made.code == 2 and "--metric: the training ended without printing bleu" in made.err
    assert '  --metric "val loss"  3 values, last 1.5000\n' in made.out


def test_ctrl_c_ends_the_run_and_not_the_command(tmp_path: Path) -> None:
    """What was printed until then counts, and nothing of the program is alive afterwards."""
    kit = make(tmp_path / "mine", "import time\nprint(f'val_loss: {1.5}', flush=True)\ntime.sleep(600)\n")
    words = [sys.executable, "-m", "autolab", "init", "--from-existing", "--seed", "1"]
    with subprocess.Popen(words, cwd=kit.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        while "val_loss: 1.5" not in command.stdout.readline():
            assert command.poll() is None
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=60)
    assert (command.returncode, err) == (0, "") and "ended by you after" in out
    assert "it printed 1 value there, the last one 1.5" in out
    marker = f"{kit.root}/.git/autolab.probe"
    assert marker not in subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout


SEVERAL = """\
import os, random
from pathlib import Path
random.seed(int(os.environ["AUTOLAB_SEED"]))
cache = Path.home() / ".cache" / "huggingface"
places = ["data/part/rows.bin", "more/words.txt", "../corpus/a.txt", cache / "hub" / "w.bin"]
total = sum(len(Path(place).read_text()) for place in places)
(cache / "hub" / "w.bin.lock").write_text("a lock beside what is cached")
for key in (cache / "token", Path(TOKEN)):
    if key.exists() and key.read_text():
        raise SystemExit("read the key")
assert os.environ["HF_HUB_OFFLINE"] == "1"
Path("data/part/processed").mkdir(exist_ok=True)
print(f"val_loss: {total + random.random():.4f}")
"""


def test_data_of_several_places_is_bound_and_keys_beside_a_cache_are_not_seen(tmp_path: Path) -> None:
    cache = tmp_path / "home" / ".cache" / "huggingface"
    for path in (cache / "hub" / "w.bin", cache / "token", tmp_path / "corpus" / "a.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("hf_secret")
    text = SEVERAL.replace("TOKEN", repr(str(cache / "token")))
    kit = make(tmp_path / "mine", text, "*.bin\n/more/\n")
    (kit.root / "more").mkdir()
    (kit.root / "more" / "words.txt").write_text("words")
    options = ("--data", "../corpus", "--data", str(cache))
    made = kit.autolab("init", "--from-existing", "--seed", "1", *options, HOME=str(tmp_path / "home"))
    assert made.code == 0, made.out + made.err
    data = {entry.path: entry.writable for entry in Config.load(kit.root / Config.FILE).data_entries}
    assert data == {"../corpus": False, "~/.cache/huggingface": False, "data/part": True, "more": False}
    assert "data/part/processed: it writes into its data, which trials only read" in made.out
    assert sorted(path.name for path in cache.rglob("*")) == ["hub", "token", "w.bin"]
    assert not (kit.root / "data" / "part" / "processed").exists()
