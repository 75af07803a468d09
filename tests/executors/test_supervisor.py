"""Kills at every kind of moment: the engine, the supervisor, a runner; and what the next one finds.

What counts is counted outside of the work folder: each script adds a line to a file of the test's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

import autolab
from autolab import files, text
from autolab.errors import ExecutorError
from autolab.executors.base import Job, Phase, Ref, Step
from autolab.executors.local import LocalExecutor
from autolab.executors.supervisor import HELD
from autolab.sandbox import process_tree, workdir
from autolab.sandbox.exit_record import Exit, StepExit, TrialOutcome

pytestmark = pytest.mark.as_root

PATIENCE_S = 30.0

DAEMON = """
import os, sys, time
ready, told = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(sys.argv[1], "w") as file: file.write(f"{os.getpid()} {os.getsid(0)} {os.getppid()}")
        os.write(told, b"x")
        time.sleep(600)
    os._exit(0)
os.read(ready, 1)
time.sleep(600)
"""


def shell(name: str, script: str) -> Step:
    return Step(name, ("/bin/sh", "-c", script), "{folder}", {"PATH": "/usr/bin:/bin"}, 20, 10_000)


def job(trial: str, *steps: Step | str, attempt: int = 1) -> Job:
    made = tuple(step if isinstance(step, Step) else shell(f"step{i}", step) for i, step in enumerate(steps))
    return Job(f"0badcafe.it.run_0001.{trial}.a{attempt}", trial, attempt, made, {})


def daemon(pid_file: Path) -> Step:
    return Step("train", (sys.executable, "-I", "-S", "-c", DAEMON, str(pid_file)), "/", {}, 20, 100)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def wait_for(truth: object, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    assert callable(truth)
    while not truth():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def content(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


class Bench:
    """A work folder under test, and the pids of who works in it."""

    def __init__(self, folder: Path) -> None:
        self.outside = folder
        self.workdir = folder / "workdir"

    def executor(self, slots: int = 2) -> LocalExecutor:
        return LocalExecutor(self.workdir, {"slots": slots})

    def supervisor(self) -> int:
        lines = [line.split() for line in (self.workdir / "supervisor.log").read_text().splitlines()]
        return int([words[2] for words in lines if words[1] == "supervisor"][-1].rstrip(","))

    def started(self, trial: str, attempt: int = 1) -> workdir.Document:
        path = self.workdir / "started" / f"{trial}.a{attempt}.json"
        wait_for(path.exists, f"{trial} never started")
        return workdir.read_json(path)

    def ends(self, refs: list[Ref]) -> dict[str, Exit]:
        """By trial and attempt, as a new engine sees them."""
        executor, deadline = self.executor(), time.monotonic() + PATIENCE_S
        statuses = executor.poll(refs, PATIENCE_S)
        while not all(status.over for status in statuses.values()):
            assert time.monotonic() < deadline, statuses
            statuses = executor.poll(refs, PATIENCE_S)
        return {ref.handle: status.exit for ref in refs if (status := statuses[ref.key]).exit}

    def free(self) -> bool:
        lock = workdir.take_lock(self.workdir / "lock", wait=False)
        if lock is not None:
            os.close(lock)
        return lock is not None


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    if (bench.workdir / "jobs").exists():
        executor = bench.executor()
        keys = [workdir.read_json(path)["key"] for path in (bench.workdir / "jobs").glob("*.json")]
        executor.cancel(list(executor.find(keys).values()))
        executor.discard()


def engine(bench: Bench, code: str) -> subprocess.Popen[str]:
    """Another engine process, which runs `code` with `ex` and `jobs`: two jobs that meet the test at a pipe."""
    head = (
        "import os, sys, signal; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from test_supervisor import *\n"
        "bench = Bench(Path(sys.argv[2])); ex = bench.executor()\n"
        "count, go = bench.outside / 'count', bench.outside / 'go'\n"
        "script = f'echo start >> {count}; read x < {go}; echo end >> {count}'\n"
        "jobs = [job('t0', script), job('t1', script)]\n"
    )
    command = [sys.executable, "-c", head + code, str(Path(__file__).parent), str(bench.outside)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)


def release(bench: Bench) -> None:
    """Lets both jobs through; held open until each has read its line."""
    pipe = os.open(bench.outside / "go", os.O_RDWR)
    os.write(pipe, b"x\nx\n")
    wait_for(lambda: content(bench.outside / "count").count("end") == 2, "the jobs did not go on")
    os.close(pipe)


def test_an_exit_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    step = StepExit("train", None, 9, 1.5, 1.2, 4096, 7, "t0", "t1")
    end = Exit.of_steps("k", TrialOutcome.FAILED, "train was\nkilled", "t0", [step, step], {"level": "full"})
    assert (end.step, end.signal, end.seconds, end.max_rss_bytes, end.message) == (
        *("train", 9, 3.0, 4096),
        "train was killed",
    )
    path = tmp_path / "exit.json"
    workdir.write_json(path, end.document)
    assert Exit.read(path) == end
    assert Exit.of_steps("k", TrialOutcome.LOST, "", "t0").step == ""


@pytest.mark.process
def test_engine_killed_while_jobs_run_and_the_next_adopts_them(bench: Bench) -> None:
    os.mkfifo(bench.outside / "go")
    process = engine(bench, "refs = ex.submit(jobs); print('up', flush=True)\nwhile True: ex.poll(refs, 60)")
    assert process.stdout and process.stdout.readline() == "up\n"
    process.kill()
    process.communicate()
    survivor = bench.supervisor()
    refs = list(bench.executor().find([job("t0").key, job("t1").key]).values())
    assert len(refs) == 2
    release(bench)
    assert {one.outcome for one in bench.ends(refs).values()} == {TrialOutcome.COMPLETED}
    assert sorted(content(bench.outside / "count")) == ["end", "end", "start", "start"]
    assert bench.supervisor() == survivor


DIE = "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
NTH = "from autolab.executors import local as s\nwrite, n = s.write_json, []\n"
BEFORE = "def nth(path, doc): n.append(1); die() if len(n) == {0} else write(path, doc)\ns.write_json = nth\n"


@pytest.mark.process
@pytest.mark.parametrize(
    ("fault", "files"),
    [
        (NTH + BEFORE.format(1), 0),  # before anything is written
        (NTH + BEFORE.format(2), 0),  # before the first job
        (NTH + BEFORE.format(3), 1),  # between the two
        ("LocalExecutor._wake = die\n", 2),  # before the supervisor is there
    ],
)
def test_engine_killed_on_the_way_to_submit_and_the_same_submit_ends_it(bench: Bench, fault: str, files: int) -> None:
    os.mkfifo(bench.outside / "go")
    process = engine(bench, DIE + fault + "ex.submit(jobs)")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(bench.executor().find([job("t0").key, job("t1").key])) == files
    process = engine(bench, "print(len(ex.submit(jobs)))")
    assert process.communicate()[0] == "2\n"
    release(bench)
    refs = list(bench.executor().find([job("t0").key, job("t1").key]).values())
    assert {one.outcome for one in bench.ends(refs).values()} == {TrialOutcome.COMPLETED}
    assert sorted(content(bench.outside / "count")) == ["end", "end", "start", "start"]


@pytest.mark.process
def test_jobs_without_a_supervisor_are_run_by_whoever_polls(bench: Bench) -> None:
    os.mkfifo(bench.outside / "go")
    process = engine(bench, DIE + "LocalExecutor._wake = die\nex.submit(jobs)")
    process.communicate()
    executor = bench.executor()
    refs = list(executor.find([job("t0").key, job("t1").key]).values())
    executor.poll(refs, 0)
    release(bench)
    assert {one.outcome for one in bench.ends(refs).values()} == {TrialOutcome.COMPLETED}


@pytest.mark.process
def test_supervisor_killed_in_mid_job_loses_that_one_and_the_next_runs_the_queued(bench: Bench) -> None:
    count = bench.outside / "count"
    refs = bench.executor(slots=1).submit(
        [
            job("done", f"echo done >> {count}"),
            job("mid", f"sleep 600 & echo $! > {bench.outside}/child; echo mid >> {count}; wait"),
            job("queued", f"echo queued >> {count}"),
        ]
    )
    wait_for(lambda: "mid" in content(count), "mid never ran")
    record, child = bench.started("mid"), int((bench.outside / "child").read_text())
    os.kill(bench.supervisor(), signal.SIGKILL)
    wait_for(lambda: not any(map(alive, (record["pid"], record["runner"], child))), "a dead supervisor's tree lives")
    ends = bench.ends(refs)
    assert [one.outcome for one in ends.values()] == ["completed", "lost", "completed"]
    assert "supervisor died while step0 ran" in ends["mid.a1"].message
    assert bench.executor().poll(refs, 0)[refs[1].key].phase is Phase.LOST
    assert content(count) == ["done", "mid", "queued"]


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")
def test_supervisor_killed_takes_a_daemon_along_that_left_its_session(bench: Bench) -> None:
    refs = bench.executor().submit([job("t", daemon(bench.outside / "pid"))])
    wait_for(lambda: len(content(bench.outside / "pid")) == 3, "no daemon")
    os.kill(bench.supervisor(), signal.SIGKILL)
    assert bench.ends(refs)["t.a1"].outcome is TrialOutcome.LOST
    assert not alive(int(content(bench.outside / "pid")[0]))


@pytest.mark.process
def test_supervisor_killed_between_steps_and_the_next_step_does_not_end(bench: Bench) -> None:
    os.mkfifo(bench.outside / "who")
    killer = job("t", f"read s < {bench.outside}/who; kill -9 $s", f"sleep 1; touch {bench.outside}/ended")
    refs = bench.executor().submit([killer, job("u", "sleep 600")])
    (bench.outside / "who").write_text(f"{bench.supervisor()}\n")
    ends = bench.ends(refs)
    assert {one.outcome for one in ends.values()} == {TrialOutcome.LOST}
    assert not (bench.outside / "ended").exists()


@pytest.mark.process
@pytest.mark.parametrize("kill_supervisor", [False, True])
@pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")
def test_runner_killed_loses_its_job_alone(bench: Bench, kill_supervisor: bool) -> None:
    refs = bench.executor().submit([job("t", daemon(bench.outside / "pid")), job("u", "sleep 600 & wait", "true")])
    wait_for(lambda: len(content(bench.outside / "pid")) == 3, "no daemon")
    record, other = bench.started("t"), bench.started("u")
    if kill_supervisor:
        os.kill(bench.supervisor(), signal.SIGSTOP)  # so that both are dead before either can act
        os.kill(record["runner"], signal.SIGSTOP)
        os.kill(bench.supervisor(), signal.SIGKILL)
    os.kill(record["runner"], signal.SIGKILL)
    assert bench.ends(refs[:1])["t.a1"].outcome is TrialOutcome.LOST
    assert not alive(record["pid"])
    assert alive(other["pid"]) is not kill_supervisor
    if kill_supervisor:  # the daemon is out of every reach: the one thing that is not covered
        os.kill(int(content(bench.outside / "pid")[0]), signal.SIGKILL)
        assert bench.ends(refs)["u.a1"].outcome is TrialOutcome.LOST
    else:
        assert not alive(int(content(bench.outside / "pid")[0]))


@pytest.mark.process
def test_both_killed_and_the_rest_of_the_session_is_found_by_its_record(bench: Bench) -> None:
    refs = bench.executor().submit([job("t", f"trap '' HUP; sleep 600 & echo $! > {bench.outside}/child; wait")])
    wait_for(lambda: content(bench.outside / "child"), "no child")
    record, child = bench.started("t"), int((bench.outside / "child").read_text())
    os.kill(record["runner"], signal.SIGSTOP)
    os.kill(bench.supervisor(), signal.SIGKILL)
    os.kill(record["runner"], signal.SIGKILL)
    wait_for(bench.free, "somebody holds the lock")
    assert alive(child)
    assert bench.ends(refs)["t.a1"].outcome is TrialOutcome.LOST
    assert not alive(child)


@pytest.mark.process
@pytest.mark.parametrize("change", [{"start": "1"}, {"boot": "another"}])
def test_a_record_of_a_pid_that_is_now_anothers_kills_nobody(bench: Bench, change: dict[str, str]) -> None:
    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        who = {"pid": bystander.pid, "pgid": bystander.pid, "start": process_tree.start_of(bystander.pid)}
        record = {"key": "k", "step": "train", "started": files.utc_now(), "boot": process_tree.boot()} | who | change
        process_tree.end_recorded(record)
        assert bystander.poll() is None
        process_tree.end_recorded(record | {"start": who["start"], "boot": process_tree.boot()})
        assert bystander.wait(PATIENCE_S) == -signal.SIGKILL
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.process
def test_a_cancel_that_nobody_heard_is_kept_by_the_next_supervisor(bench: Bench) -> None:
    executor = bench.executor(slots=1)
    refs = executor.submit([job("runs", "sleep 600"), job("waits", f"touch {bench.outside}/never")])
    runner = bench.started("runs")["runner"]
    os.kill(bench.supervisor(), signal.SIGSTOP)
    for ref in refs:
        (bench.workdir / "cancel" / ref.handle).touch()
    os.kill(bench.supervisor(), signal.SIGKILL)
    wait_for(lambda: not alive(runner), "the runner lives")
    assert [one.outcome for one in bench.ends(refs).values()] == ["cancelled", "cancelled"]
    assert not (bench.outside / "never").exists()


@pytest.mark.process
def test_kills_at_many_moments_and_no_attempt_starts_or_ends_twice(bench: Bench) -> None:
    count, trials, attempts = bench.outside / "count", [f"t{i}" for i in range(6)], {}
    lost = kills = 0

    def attempt(trial: str) -> Job:
        word = f"{trial}.a{attempts[trial]}"
        return job(trial, f"echo {word}+ >> {count}; sleep 0.03", f"echo {word}- >> {count}", attempt=attempts[trial])

    attempts.update(dict.fromkeys(trials, 1))
    executor = bench.executor()
    refs = {trial: executor.submit([attempt(trial)])[0] for trial in trials}
    while len(left := [t for t in trials if not (bench.outside / f"ok-{t}").exists()]) > 0:
        if kills < 12:
            time.sleep(0.004 * kills)  # the moment: a little later each time
            pid = bench.supervisor()
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
            kills += 1
        statuses = executor.poll(list(refs.values()), PATIENCE_S)
        for trial in left:
            ended = statuses[refs[trial].key].exit
            if ended and ended.outcome is TrialOutcome.LOST:
                lost += 1
                attempts[trial] += 1
                refs[trial] = executor.submit([attempt(trial)])[0]
            elif ended:
                assert ended.outcome is TrialOutcome.COMPLETED, ended
                (bench.outside / f"ok-{trial}").touch()
    lines = content(count)
    assert len(lines) == len(set(lines)), "an attempt ran twice"
    assert {f"{trial}.a{attempts[trial]}{end}" for trial in trials for end in "+-"} <= set(lines)
    assert lost > 0, "no kill hit anything: the test shows nothing"
    for trial in trials:  # attempts of one trial never overlap: each begins after the last had its say
        marks = [line for line in lines if line.startswith(f"{trial}.")]
        assert marks == sorted(marks, key=lambda mark: int(mark.split(".a")[1][:-1]))


@pytest.mark.process
def test_a_second_supervisor_leaves_at_once(bench: Bench) -> None:
    refs = bench.executor().submit([job("t", "sleep 600")])
    first = bench.supervisor()
    command = [
        sys.executable,
        "-I",
        "-S",
        "-B",
        str(Path(autolab.__file__).parent / "executors/supervisor.py"),
        str(bench.workdir),
    ]
    second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (second.returncode, second.stdout, second.stderr) == (HELD, "", "")
    assert alive(first)
    assert bench.executor().poll(refs, 0)[refs[0].key].phase in (Phase.QUEUED, Phase.RUNNING)


@pytest.mark.process
def test_its_files_run_alone_on_a_machine_without_autolab(bench: Bench) -> None:
    package, node = Path(text.__file__).parent, bench.outside / "node" / "autolab"
    shutil.copytree(package / "sandbox", node / "sandbox")
    (node / "executors").mkdir()
    for name in ("errors.py", "files.py", "text.py", "executors/supervisor.py"):
        shutil.copy(package / name, node / name)
    place = workdir.Workdir(bench.workdir)
    place.make()
    workdir.write_json(place.settings, {"slots": 1})
    made = {"folder": str(place.folder("t", 1)), "steps": [asdict(shell("train", "echo done")) | {"cwd": "/"}]}
    workdir.write_json(place.job("t.a1"), {"key": "k.t.a1", "order": 0, "cores": 1} | made)
    wakeup = workdir.listen(place.events)
    command = [sys.executable, "-I", "-S", "-B", str(node / "executors" / "supervisor.py"), str(bench.workdir)]
    told = subprocess.run(command, capture_output=True, env={}, cwd="/", timeout=PATIENCE_S, check=False)
    assert (told.returncode, told.stderr) == (0, b"")
    wait_for(place.exit("t.a1").exists, "the job did not end")
    os.close(wakeup)
    assert Exit.read(place.exit("t.a1")).outcome is TrialOutcome.COMPLETED
    assert (place.folder("t", 1) / "logs" / "train.out").read_text() == "done\n"


@pytest.mark.process
def test_the_supervisor_leaves_when_its_queue_is_empty_and_the_next_job_has_a_new_one(bench: Bench) -> None:
    executor = bench.executor()
    bench.ends(executor.submit([job("t", "true")]))
    first = bench.supervisor()
    wait_for(lambda: not alive(first), "a supervisor without jobs stays")
    assert bench.ends(executor.submit([job("u", "true")]))["u.a1"].outcome is TrialOutcome.COMPLETED
    assert bench.supervisor() != first


@pytest.mark.process
def test_many_small_batches_meet_a_leaving_supervisor_and_none_is_forgotten(bench: Bench) -> None:
    executor = bench.executor()
    for i in range(25):
        refs = executor.submit([job(f"t{i}", f"echo {i} >> {bench.outside}/count")])
        deadline = time.monotonic() + PATIENCE_S
        while not executor.poll(refs, PATIENCE_S)[refs[0].key].over:
            assert time.monotonic() < deadline
    assert content(bench.outside / "count") == [str(i) for i in range(25)]


@pytest.mark.process
def test_a_job_inherits_no_descriptor_and_no_signal_setting(bench: Bench) -> None:
    show = (
        "import os, signal\nprint(sorted(os.listdir('/proc/self/fd'), key=int))\nprint(signal.getsignal(signal.SIGHUP))"
    )
    step = Step("t", (sys.executable, "-I", "-S", "-c", show), "/", {}, 20, 1000)
    held = os.open(bench.outside, os.O_RDONLY)
    os.set_inheritable(held, True)
    refs = bench.executor().submit([job("t", step, "trap; kill -PIPE $$; echo survived")])
    os.close(held)
    ended = bench.ends(refs)["t.a1"]
    assert (ended.step, ended.signal) == ("step1", signal.SIGPIPE)
    out = (bench.workdir / "trials" / "t" / "a1" / "logs" / "t.out").read_text()
    if sys.platform == "linux":
        assert out.splitlines()[0] == "['0', '1', '2', '3']", "3 is the listing itself"


@pytest.mark.process
def test_a_file_that_is_no_job_is_lost_and_the_others_run(bench: Bench) -> None:
    executor = bench.executor(slots=1)
    refs = executor.submit([job("t", "sleep 600"), job("u", "true"), job("v", "true")])
    os.kill(bench.supervisor(), signal.SIGSTOP)
    broken = bench.workdir / "jobs" / "u.a1.json"
    broken.write_text(broken.read_text()[:40])
    os.kill(bench.supervisor(), signal.SIGKILL)
    ends = bench.ends(refs)
    assert [one.outcome for one in ends.values()] == ["lost", "lost", "completed"]
    assert "u.a1.json is not a job" in ends["u.a1"].message
    broken.write_text(json.dumps({"key": refs[1].key}))


# Full and read-only


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own; only root can have one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("root may not mount here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.process
@pytest.mark.root("mounts a small disk")
def test_a_full_disk_is_one_line_and_work_goes_on_when_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    executor = LocalExecutor(small_disk / "w", {"slots": 1})
    refs = executor.submit([job("t", f"cat /dev/zero > {small_disk}/ballast 2>{tmp_path}/err"), job("u", "true")])
    with pytest.raises(ExecutorError, match="No space left") as full:
        while not all(status.over for status in executor.poll(refs, PATIENCE_S).values()):
            pass
    assert full.value.transient
    assert str(small_disk) in str(full.value)
    with pytest.raises(ExecutorError, match="No space left"):
        executor.submit([job("v", "true")])
    (small_disk / "ballast").unlink()
    refs += executor.submit([job("v", "true")])
    ends = Bench(tmp_path)
    ends.workdir = small_disk / "w"
    assert [one.outcome for one in ends.ends(refs).values()] == ["lost", "completed", "completed"]
    executor.discard()


@pytest.mark.process
@pytest.mark.root("mounts a small disk")
def test_a_read_only_folder_is_refused_in_one_line_that_names_it(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(ExecutorError, match=f"{small_disk}/w.*Read-only") as refused:
        LocalExecutor(small_disk / "w", {}).submit([job("t", "true")])
    assert not refused.value.transient


def test_a_work_folder_that_cannot_be_is_refused_in_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExecutorError, match=f"{tmp_path}/file/w"):
        LocalExecutor(tmp_path / "file" / "w", {}).submit([job("t", "true")])
    with pytest.raises(ExecutorError, match=f"{tmp_path}/none"):
        LocalExecutor(tmp_path / "none", {}).poll([Ref("k.t.a1", "t.a1")], 0)
    assert not (tmp_path / "none").exists()


@pytest.mark.process
def test_a_supervisor_that_cannot_start_says_why(bench: Bench) -> None:
    (bench.workdir / "lock").mkdir(parents=True)
    with pytest.raises(ExecutorError, match=r"the supervisor cannot run.*lock"):
        bench.executor().submit([job("t", "true")])
    (bench.workdir / "lock").rmdir()
