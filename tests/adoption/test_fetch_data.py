"""`autolab fetch`: a command runs once with network, and trials get what it made, read-only, and no network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import adoption_kit
import pytest
from adoption_kit import repository
from lab_kit import LabKit

from autolab.adoption.fetch_results import FetchResult
from autolab.lab.schemas.config import Config
from autolab.trials.fetched_data import entries, records

PREPARE = """\
import os, sys, urllib.request
from pathlib import Path
text = urllib.request.urlopen(sys.argv[1]).read()
Path("data/chars/train.bin").write_bytes(text)
Path("data/chars/readme.md").write_text("changed\\n")
weights = Path.home() / ".cache" / "torch" / "w.pth"
weights.parent.mkdir(parents=True)
weights.write_bytes(text)
(Path.home() / ".cache" / "pip").mkdir()
(Path.home() / ".cache" / "pip" / "wheel").write_text("no data")
try:
    print("key:", open(os.environ["USER_KEY_PLACE"]).read())
except (OSError, KeyError) as error:
    print("key:", type(error).__name__)
print(len(text), "bytes")
"""
TRAIN = """\
import random, os, urllib.request
from pathlib import Path
random.seed(int(os.environ["AUTOLAB_SEED"]))
rows = Path("data/chars/train.bin").read_bytes()
assert Path("data/chars/readme.md").read_text() == "committed\\n"
assert rows == (Path.home() / ".cache" / "torch" / "w.pth").read_bytes()
for path in (Path("data/chars/train.bin"), Path.home() / ".cache" / "torch" / "w.pth"):
    try:
        path.write_bytes(b"mine")
        raise SystemExit("wrote into the data")
    except OSError:
        pass
try:
    urllib.request.urlopen("URL")
    raise SystemExit("reached the network")
except OSError:
    print(f"val_loss: {len(rows) + random.random():.4f}")
"""


class Corpus(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"a corpus")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Corpus)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/corpus.txt"
    server.shutdown()
    thread.join()
    server.server_close()


def files_of(kit: LabKit) -> dict[str, bytes]:
    paths = [path for path in kit.root.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {str(path.relative_to(kit.root)): path.read_bytes() for path in paths}


@pytest.mark.process
def test_what_was_fetched_before_init_stands_in_trials_where_the_program_looks(tmp_path: Path, url: str) -> None:
    files = {"data/chars/prepare.py": PREPARE, "data/chars/readme.md": "committed\n", ".gitignore": "*.bin\n"}
    kit = repository(tmp_path / "mine", {**files, "train.py": TRAIN.replace("URL", url)})
    before = files_of(kit)
    command = ("--", "python", "data/chars/prepare.py", url)
    assert kit.autolab("fetch").out.startswith("nothing was fetched yet")
    done = kit.autolab("fetch", *command)
    assert done.code == 0, done.out + done.err
    assert "8 bytes\n" in done.out, done.out
    assert "note: changed and not kept, as git holds them: data/chars/readme.md\n" in done.out, done.out
    assert files_of(kit) == before and not (kit.root / ".git" / "autolab.fetch").exists()
    again = kit.autolab("fetch", *command)
    assert again.code == 0 and again.out.startswith("fetched already: python data/chars/prepare.py")
    assert kit.autolab("fetch").out.startswith(f"python data/chars/prepare.py {url}: 2 files, 0.0 MB")

    made = kit.autolab("init", "--from-existing", "--seed", "1")
    assert made.code == 0, made.out + made.err
    assert made.out.count("trying ") == 1 and "ended after" in made.out
    config = Config.load(kit.root / Config.FILE)
    assert [entry.place for entry in config.data_entries] == [".", "~"]

    # A store that was changed by hand is no result of the command any more.
    (fetched, _), _ = entries(kit.root / ".git")
    changed = kit.root / fetched.path / "data" / "chars" / "train.bin"
    changed.chmod(0o644)
    changed.write_bytes(b"another")
    told = kit.autolab("calibrate")
    assert told.code == 1 and "changed since it was fetched; fetch it again: autolab fetch --again -- " in told.err


@pytest.mark.process
def test_a_command_that_fails_keeps_nothing_and_no_key_of_the_user_is_seen(tmp_path: Path) -> None:
    key = tmp_path / "home" / ".netrc"
    key.parent.mkdir()
    key.write_text("password hunter2")
    text = (
        f"import sys\nopen('half.bin', 'w').write('x')\ntry:\n    print(open({str(key)!r}).read())\nexcept OSError:\n"
    )
    kit = repository(tmp_path / "mine", {"get.py": text + "    sys.exit('the server said 503')\n", "train.py": "1\n"})
    done = kit.autolab("fetch", "--", "python", "get.py", HOME=str(key.parent))
    assert done.code == 1 and "hunter2" not in done.out + done.err
    assert done.err == ("autolab: python get.py: exited with status 1: the server said 503; nothing is kept\n")
    assert list(records(kit.root / ".git")) == []


@pytest.mark.process
def test_in_a_lab_the_line_for_the_configuration_is_said(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": adoption_kit.TRAIN})
    assert kit.autolab("init", "--from-existing", "--seed", "1", "--probe-seconds", "0").code == 0
    done = kit.autolab("fetch", "--", "sh", "-c", "echo 1 > rows.bin")
    assert done.code == 0, done.err
    assert "add to the list `data` in .autolab/config.yaml: {path: .git/autolab.fetched/sh-" in done.out


def test_links_that_lead_out_of_the_result_are_left_out_and_files_are_read_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "blobs").mkdir(parents=True)
    (home / "blobs" / "b").write_text("1")
    (home / "good").symlink_to("blobs/b")
    (home / "absolute").symlink_to(home / "blobs" / "b")
    (home / "out").symlink_to("../../secret")
    (home / ".cache" / "huggingface").mkdir(parents=True)
    (home / ".cache" / "huggingface" / "token").write_text("key")
    result = FetchResult(tmp_path / "result")
    result.add_home(home)
    kept = tmp_path / "result" / "home"
    assert sorted(path.name for path in kept.rglob("*")) == ["b", "blobs", "good"]
    assert (kept / "good").read_text() == "1" and (kept / "blobs" / "b").stat().st_mode & 0o777 == 0o444
    assert result.notes == ["not kept, as these links lead out of what was made: absolute, out"]
    assert (result.parts["home"].files, result.parts["home"].bytes) == (2, 1)
