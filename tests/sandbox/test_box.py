"""What honest programs find inside each level, what the levels' own failures look like, and the limits' watcher."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autolab.errors import LabError
from autolab.sandbox import execute, landlock, limits, process_tree, runner
from autolab.sandbox.box import FIRST_UID, Box, NotEnclosed, enclose, seatbelt
from autolab.sandbox.collect import remove_tree
from autolab.sandbox.execute import Ended
from autolab.sandbox.exit_record import Exit, TrialOutcome

pytestmark = pytest.mark.as_root

LEVELS = ("full", "partial", "none")
PYTHON = [os.path.realpath(sys.executable), "-I", "-S", "-B", "-c"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("own", "seen", "hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "seen" / "given.txt").write_text("given")
    (tmp_path / "hidden" / "secret.txt").write_text("secret")
    return tmp_path


def boxed(place: Path, level: str, code: str, *words: str, **more: Any) -> Ended:
    box = Box(level=level, reads=(sys.base_prefix, str(place / "seen")), writes=(str(place / "own"),))
    environment = {"HOME": "{scratch}", "TMPDIR": "{scratch}", "PATH": "/usr/bin:/bin"}
    argv = [*PYTHON, code, *words]
    return execute.run(argv, place / "own", environment, place / "logs" / "log", 60, replace(box, **more))


HONEST = {
    "files": "import os; open('a', 'w').write('x'); os.rename('a', 'b'); os.symlink('b', 'd'); print(open('d').read())",
    "modes": "import os, shutil; open('a', 'w').close(); os.chmod('a', 0o600); shutil.copy2('a', 'b'); print('ok')",
    "temporary": "import tempfile as t; file = t.NamedTemporaryFile('w+'); file.write('x'); file.flush(); print('ok')",
    "threads": "import threading as t; one = t.Thread(target=print, args=('up',)); one.start(); one.join()",
    "processes": "import subprocess as s; print(s.run(['/bin/sh', '-c', 'echo child'], capture_output=True).stdout)",
    "pipes": "import os; r, w = os.pipe(); os.fork() or (os.write(w, b'x'), os._exit(0)); print(os.read(r, 2))",
    "socketpair": "import socket; a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))",
    "memory": "import mmap; block = mmap.mmap(-1, 1 << 20); block[:2] = b'ok'; print(block[:2])",
    "what is given": "import sys; print(open(sys.argv[1]).read())",
    "the machine": "import os; print(len(os.sched_getaffinity(0)) > 0, 'MemTotal' in open('/proc/meminfo').read())",
    "random": "import os, secrets; print(len(os.urandom(8)), len(open('/dev/urandom', 'rb').read(4)))",
    "home": "import os; open(os.path.expanduser('~/.cache'), 'w').write('x'); print('ok')",
}


@pytest.mark.process
@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_do_the_same_at_every_level(place: Path, name: str) -> None:
    said = {}
    for level in LEVELS:
        remove_tree(place / "own")
        (place / "own").mkdir()
        ended = boxed(place, level, HONEST[name], str(place / "seen" / "given.txt"))
        assert ended.ok, f"{level}: {ended.tail}"
        said[level] = ended.tail
    assert len(set(said.values())) == 1, said


@pytest.mark.process
@pytest.mark.parametrize(("level", "found"), [("full", "FileNotFoundError"), ("partial", "PermissionError")])
def test_what_is_not_named_cannot_be_read(place: Path, level: str, found: str) -> None:
    ended = boxed(place, level, "import sys; open(sys.argv[1])", str(place / "hidden" / "secret.txt"))
    assert ended.code == 1 and ended.last_line.startswith(found)
    assert boxed(place, "none", "import sys; open(sys.argv[1])", str(place / "hidden" / "secret.txt")).ok


@pytest.mark.process
@pytest.mark.parametrize("level", ["full", "partial"])
def test_what_is_read_cannot_be_written(place: Path, level: str) -> None:
    ended = boxed(place, level, "import sys; open(sys.argv[1], 'w')", str(place / "seen" / "given.txt"))
    assert ended.code == 1 and (place / "seen" / "given.txt").read_text() == "given"


@pytest.mark.process
@pytest.mark.parametrize(("level", "found"), [("full", "empty"), ("partial", "PermissionError")])
def test_a_covered_file_cannot_be_read_and_what_lies_beside_it_can(place: Path, level: str, found: str) -> None:
    cache = place / "cache"
    (cache / "hub").mkdir(parents=True)
    (cache / "hub" / "model").write_text("weights")
    (cache / "token").write_text("hf_key")
    for path in (cache, cache / "hub"):
        path.chmod(0o755)
    code = (
        f"print(open({str(cache / 'hub' / 'model')!r}).read())\n"
        f"try:\n    print(open({str(cache / 'token')!r}).read() or 'empty')\n"
        "except OSError as error:\n    print(type(error).__name__)\n"
    )
    ended = boxed(place, level, code, reads=(sys.base_prefix, str(cache)), covers=(str(cache / "token"),))
    assert ended.tail.split("\n") == ["weights", found]


@pytest.mark.process
@pytest.mark.parametrize("level", ["full", "partial"])
@pytest.mark.parametrize("network", [True, False])
def test_a_service_of_this_machine_is_reached_with_network_alone(place: Path, level: str, network: bool) -> None:
    code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5); print('reached')"
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = boxed(place, level, code, str(server.getsockname()[1]), network=network)
    assert (ended.last_line == "reached") == network


@pytest.mark.process
def test_at_full_data_is_seen_at_another_place_too_and_cannot_be_written(place: Path) -> None:
    data = place / "data"
    data.mkdir()
    data.chmod(0o755)
    (data / "rows").write_text("rows")
    code = (
        "print(open('/datasets/x/rows').read())\n"
        "try:\n    open('/datasets/x/more', 'w')\nexcept OSError as error:\n    print(error.strerror)\n"
    )
    ended = boxed(place, "full", code, mounts=((str(data), "/datasets/x"),))
    assert ended.tail.split("\n") == ["rows", "Read-only file system"]


@pytest.mark.process
def test_at_full_nothing_of_the_machine_is_there_but_what_programs_need(place: Path) -> None:
    code = "import json, os; print(json.dumps([os.listdir('/'), os.listdir('/proc/self/fd')]))"
    top, descriptors = json.loads(boxed(place, "full", code).tail)
    system = {"bin", "dev", "etc", "lib", "lib32", "lib64", "proc", "sbin", "sys", "tmp", "usr"}
    assert set(top) <= system | {place.parts[1], Path(sys.base_prefix).parts[1]}
    assert len(descriptors) == 4, "input, output, errors and the listing itself: no other descriptor came along"


@pytest.mark.process
@pytest.mark.root("a step becomes another user")
def test_started_by_root_a_step_is_a_user_of_its_own_without_capabilities(place: Path) -> None:
    code = (
        "import os; print(os.getuid() > 0, os.getgroups(), *(l for l in open('/proc/self/status') if l[:3] == 'Cap'))"
    )
    said = boxed(place, "full", code).tail.split()
    assert said == [
        "True",
        "[]",
        *(word for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb") for word in (f"Cap{kind}:", "0" * 16)),
    ]
    assert (place / "own").stat().st_uid >= FIRST_UID


@pytest.mark.process
def test_signals_and_statuses_are_told_apart_at_full_too(place: Path) -> None:
    assert boxed(place, "full", "import os; os.kill(os.getpid(), 11)").code == -11
    assert boxed(place, "full", "raise SystemExit(77)").code == 77


@pytest.mark.process
def test_a_sandbox_that_cannot_be_put_up_is_not_the_programs_failure(place: Path) -> None:
    box = Box(level="full", reads=(sys.base_prefix,))
    with pytest.raises(LabError, match=r"the sandbox could not be put up: bwrap: Can't chdir to .*own"):
        execute.run([*PYTHON, "pass"], place / "own", {"PATH": "/usr/bin"}, place / "log", 60, box)


def test_without_bubblewrap_nothing_runs_and_the_way_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolab.sandbox.box.PROGRAMS", str(place))
    step = {"name": "s", "argv": ["true"], "cwd": "/", "box": _plain("full")}
    with pytest.raises(NotEnclosed, match="bwrap was not found"):
        enclose(step, str(place), "autolab-test", os.getpid())


def _plain(level: str, **more: object) -> dict[str, object]:
    none = {
        "reads": [],
        "writes": [],
        "network": False,
        "memory_bytes": 0,
        "processes": 0,
        "disk_bytes": 0,
        "own_user": True,
        "without": [],
        "covers": [],
    }
    return {"level": level} | none | more


@pytest.mark.process
def test_a_link_that_an_earlier_step_left_is_not_mounted(place: Path) -> None:
    """Else the next step would find a folder of the host in place of its weights."""
    steps = []
    for name, code, seen in (
        ("train", f"import os; os.symlink({str(place / 'hidden')!r}, 'model')", []),
        ("predict", "import os; print(os.listdir('../train/model'))", [str(place / "job" / "train" / "model")]),
    ):
        own = str(place / "job" / name)
        box = _plain("full", reads=[sys.base_prefix, *seen], writes=[own])
        step = {"name": name, "argv": [*PYTHON, code], "cwd": own, "env": {}, "time_limit_s": 30, "output_bytes": 999}
        steps.append(step | {"box": box})
    end = execute.run_job({"key": "k", "folder": str(place / "job"), "steps": steps})
    assert (end.outcome, end.step) == (TrialOutcome.INVALID_ARTIFACT, "train")
    assert end.message == "train/model: a link, where a folder of its own was expected"


@pytest.mark.process
def test_the_group_of_a_step_is_gone_with_it(place: Path) -> None:
    ended = boxed(place, "none", "pass", memory_bytes=100 << 20, processes=50)
    assert ended.ok and set(ended.contained) == {"level", "memory", "processes"}
    left = [
        folder for kind in ("memory", "pids") for _, base in limits._bases(kind) for folder in base.glob("autolab-*")
    ]
    alive = process_tree.process_table()
    assert [folder for folder in left if int(folder.name.split("-")[1]) not in alive] == []


@pytest.mark.process
def test_a_sweep_takes_the_groups_of_the_dead_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_bases", lambda controller: [(1, tmp_path)])
    ended = subprocess.run(
        [sys.executable, "-S", "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    dead, alive = tmp_path / f"autolab-{int(ended.stdout)}-train", tmp_path / f"autolab-{os.getpid()}-train"
    for folder in (dead, alive):
        folder.mkdir()
    limits.sweep("autolab-")
    assert alive.exists() and not dead.exists()


@pytest.mark.process
def test_an_ordinary_user_gets_every_layer_but_the_user_of_its_own(tmp_path: Path) -> None:
    """The same files, run by somebody without rights, with the system's interpreter."""
    node = Path(
        shutil.copytree(Path(runner.__file__).parents[1], Path("/var/tmp") / f"autolab-{os.getpid()}" / "autolab")
    )
    work = node.parent / "work"
    try:
        work.mkdir()
        subprocess.run(["chmod", "-R", "a+rX", str(node.parent)], check=True)  # whatever the umask of the checkout
        work.chmod(0o777)
        code = (
            "import ctypes, os, socket; libc = ctypes.CDLL(None); "
            "print(os.getuid(), libc.unshare(0x10000000), socket.socket().connect_ex(('127.0.0.1', 22)) != 0, "
            "os.path.exists('/var/log'), len([n for n in os.listdir('/proc') if n.isdigit()]))"
        )
        box = _plain("full", writes=[str(work / "run")], memory_bytes=100 << 20, processes=50)
        step = {
            "name": "run",
            "argv": ["/usr/bin/python3", "-I", "-S", "-c", code],
            "cwd": str(work / "run"),
            "env": {},
        }
        step |= {"time_limit_s": 30, "output_bytes": 9999, "merged": True, "box": box}
        greed = "import time; held = b'x' * (300 << 20); time.sleep(30)"
        hog = step | {"name": "hog", "cwd": "/", "box": box | {"writes": []}}
        hog["argv"] = ["/usr/bin/python3", "-I", "-S", "-c", greed]
        job = json.dumps({"key": "k", "folder": str(work), "steps": [step, hog]})
        end = _as_somebody(["/usr/bin/python3", "-I", "-S", "-B", str(node / "sandbox" / "runner.py")], job)
        said = (work / "logs" / "run.out").read_text()
        assert said.split() == [str(os.geteuid() or 65534), "-1", "True", "False", "2"], said + end.message
        assert end.outcome is TrialOutcome.OUT_OF_MEMORY
        assert end.contained == {"level": "full", "memory": "watcher", "processes": "watcher"}
    finally:
        remove_tree(node.parent)


def _as_somebody(argv: list[str], job: str) -> Exit:
    """Run by who runs the tests, or by `nobody` where that is root."""
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    who = nobody if os.geteuid() == 0 else []
    ours, theirs = socket.socketpair()
    call, answer = socket.socketpair()
    with ours, call:
        with theirs:
            server = subprocess.Popen([*who, *argv], stdin=theirs.fileno(), env={}, cwd="/")
        with answer:
            socket.send_fds(ours, [b"j"], [answer.fileno()])
        call.sendall(job.encode() + b"\n")
        said = execute.read_to_end(call)
    server.wait(30)
    return Exit.from_json(said, "the runner's reply")


# the watcher


@pytest.mark.process
def test_memory_is_counted_once_however_many_share_it() -> None:
    code = (
        "import os; held = b'x' * (80 << 20)\n"
        "for _ in range(3):\n    os.fork() or (print('x', flush=True), os.read(0, 1), os._exit(0))\nos.wait()"
    )
    with subprocess.Popen([*PYTHON, code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as family:
        assert family.stdout is not None
        for _ in range(3):
            family.stdout.read(2)
        pids = [family.pid, *process_tree.below(family.pid, process_tree.process_table())]
        assert len(pids) == 4
        assert limits.Watcher([], 0, 150 << 20, 0).judge(pids) is None
        assert limits.Watcher([], 0, 60 << 20, 0).judge(pids) == TrialOutcome.OUT_OF_MEMORY
        assert limits.Watcher([], 0, 0, 4).judge(pids) is None
        assert limits.Watcher([], 0, 0, 3).judge(pids) == TrialOutcome.PROCESS_LIMIT
        for pid in pids:
            process_tree.kill(pid)


def test_disk_counts_names_once_and_what_has_no_name_any_more(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * (1 << 20))
    os.link(tmp_path / "a", tmp_path / "b")
    once = limits.disk_usage([str(tmp_path)])
    assert 1 << 20 <= once.disk < 2 << 20 and once.longest == 1 << 20 and not once.beyond
    with open(tmp_path / "gone", "wb") as file:
        file.write(b"x" * (3 << 20))
        file.flush()
        os.fsync(file.fileno())
        (tmp_path / "gone").unlink()
        assert limits.Watcher([str(tmp_path)], 2 << 20, 0, 0).judge([os.getpid()]) == TrialOutcome.DISK_LIMIT
    assert limits.Watcher([str(tmp_path)], 2 << 20, 0, 0).judge([os.getpid()]) is None


def test_a_tree_too_deep_to_be_seen_whole_is_beyond_the_limit(tmp_path: Path) -> None:
    (tmp_path / "/".join("d" * (limits.DEEPEST + 3))).mkdir(parents=True)
    assert limits.disk_usage([str(tmp_path)]).beyond


def test_looks_take_a_small_share_of_the_time() -> None:
    watcher = limits.Watcher(["/usr/share"], 1, 0, 0)
    assert watcher.look(list) == TrialOutcome.DISK_LIMIT
    assert watcher.look(lambda: pytest.fail("looked again at once")) is None and watcher.wait() >= limits.TICK_S / 2
    assert limits.Watcher([], 0, 0, 0).wait() == float("inf")


def test_where_no_group_can_be_made_the_watcher_holds_the_limits(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(limits, "_bases", lambda controller: [])
    step = {"name": "s", "argv": ["true"], "cwd": "/", "box": _plain("none", memory_bytes=9, processes=9)}
    made = enclose(step, str(place), "autolab-test", os.getpid())
    assert made.held_by == {"memory": "watcher", "processes": "watcher"}
    assert (made.watcher.memory_bytes, made.watcher.processes) == (9, 9)


def test_the_second_cgroup_version_is_spoken_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On files alone: no machine with it and rights was at hand."""
    monkeypatch.setattr(limits, "_bases", lambda controller: [(2, tmp_path)])
    group = limits.Group.make("g", 1000, 7)
    assert (tmp_path / "g" / "memory.max").read_text() == "1000" and (tmp_path / "g" / "pids.max").read_text() == "7"
    (tmp_path / "g" / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert group.version == 2 and group.ran_out() == TrialOutcome.OUT_OF_MEMORY


# the kernel's own


def test_a_filter_is_known_for_this_machine_and_only_for_those_that_were_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(landlock.seccomp_filter(sockets=True, alone=False, shared_memory=True)) % 8 == 0
    monkeypatch.setattr(landlock, "ARCHITECTURE", None)
    with pytest.raises(OSError, match="no system call numbers are known"):
        landlock.seccomp_filter(sockets=True, alone=False, shared_memory=True)


def test_a_seatbelt_profile_names_what_is_allowed_and_refuses_the_rest() -> None:
    profile = seatbelt(["/data"], ['/tmp/own "x"'], network=False)
    assert "(deny default)" in profile and '(allow file-read* (subpath "/data"))' in profile
    assert r'(allow file-write* (subpath "/tmp/own \"x\""))' in profile and "network" not in profile


@pytest.mark.process
def test_what_a_killed_engine_ran_dies_with_it(place: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from autolab.sandbox import execute
execute.run(["/bin/sh", "-c", "sleep 600 & echo up; sleep 600"], Path("/"), {{}}, Path({str(place / "log")!r}), 600)
"""
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as engine:
        said = place.parent / f".{place.name}.log.run" / "logs" / "run.out"
        while not (said.exists() and said.read_text()):
            assert engine.poll() is None
        pids = process_tree.below(engine.pid, process_tree.process_table())
        assert len(pids) >= 4, "server, runner, shell, sleep"
        watched = [os.pidfd_open(pid) for pid in pids]
        engine.kill()
    for descriptor in watched:
        assert select.select([descriptor], [], [], 30)[0], "alive after its engine"
        os.close(descriptor)


@pytest.mark.process
def test_the_server_of_runners_is_started_once_and_again_if_it_is_killed(place: Path) -> None:
    assert boxed(place, "none", "print(1)").ok
    first, _ = execute._servers[os.getpid()]
    assert boxed(place, "none", "print(1)").ok and execute._servers[os.getpid()][0] is first
    first.kill()
    first.wait()
    assert boxed(place, "none", "print(1)").ok and execute._servers[os.getpid()][0] is not first
