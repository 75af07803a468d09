"""The contract that every executor keeps, run against each, and what they share: checking, filling, collecting.

A new executor joins by a line in BACKENDS: a function from (workdir, slots) to an executor whose jobs see this
machine's files, so that a test can watch them from outside.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autolab.errors import ExecutorError
from autolab.executors.base import Executor, Job, Phase, Ref, Step, check, fill
from autolab.executors.executor_names import EXECUTORS, load_executor
from autolab.executors.local import LocalExecutor
from autolab.sandbox.exit_record import Exit, TrialOutcome

BACKENDS: dict[str, Callable[[Path, int], Executor]] = {
    "local": lambda workdir, slots: LocalExecutor(workdir, {"slots": slots}),
}
PATIENCE_S = 30.0  # far more than any wait needs; reached only by a failure

DAEMON = """
import os, sys, time
ready, told = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in (0, 1, 2): os.close(fd)
        with open(sys.argv[1], "w") as file: file.write(str(os.getpid()))
        os.write(told, b"x")
        time.sleep(600)
    os._exit(0)
os.read(ready, 1)
if len(sys.argv) > 2: time.sleep(600)
"""


def shell(
    name: str, script: str, *, env: Mapping[str, str] | None = None, limit: float = 20.0, cap: int = 10_000
) -> Step:
    return Step(name, ("/bin/sh", "-c", script), "{folder}", {} if env is None else env, limit, cap)


def python(name: str, code: str, *words: str, limit: float = 20.0) -> Step:
    return Step(name, (sys.executable, "-I", "-S", "-c", code, *words), "{folder}", {}, limit, 10_000)


def job(trial: str, *steps: Step, attempt: int = 1, cores: int = 1, inputs: Mapping[str, Path] | None = None) -> Job:
    return Job(f"0badcafe.it.run_0001.{trial}.a{attempt}", trial, attempt, steps, inputs or {}, cores)


def ends(executor: Executor, refs: list[Ref]) -> list[Exit]:
    """Polls until all are over."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        statuses = executor.poll(refs, PATIENCE_S)
        exits = [statuses[ref.key].exit for ref in refs]
        if all(statuses[ref.key].over for ref in refs):
            return [one for one in exits if one is not None]
        assert time.monotonic() < deadline, statuses


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def until_running(executor: Executor, ref: Ref, mark: Path) -> None:
    """Until the job itself has said that it runs."""
    deadline = time.monotonic() + PATIENCE_S
    while not (mark.exists() and mark.read_text().strip()):
        assert time.monotonic() < deadline, executor.poll([ref], 0)
        time.sleep(0.005)


Make = Callable[..., Executor]


@pytest.fixture(params=sorted(BACKENDS))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Executors on one work folder; at the end whatever is left of it is cancelled."""
    made: list[Executor] = []

    def executor(slots: int = 2) -> Executor:
        made.append(BACKENDS[request.param](tmp_path / "workdir", slots))
        return made[-1]

    yield executor
    if made and (tmp_path / "workdir").exists():
        keys = [json.loads(file.read_text())["key"] for file in (tmp_path / "workdir" / "jobs").glob("*.json")]
        made[-1].cancel(list(made[-1].find(keys).values()))
        made[-1].discard()


@pytest.mark.process
def test_jobs_of_one_slot_run_in_the_order_of_submission(make: Make, tmp_path: Path) -> None:
    executor = make(slots=1)
    trials = ["zeta", "alpha", "mid", "beta"]
    refs = executor.submit([job(trial, shell("train", f"echo {trial} >> {tmp_path}/order")) for trial in trials])
    assert [one.outcome for one in ends(executor, refs)] == [TrialOutcome.COMPLETED] * 4
    assert (tmp_path / "order").read_text().split() == trials


@pytest.mark.process
def test_two_slots_hold_two_jobs_and_never_three(make: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "meet")
    log = f"{tmp_path}/log"
    meet = [f"echo x > {tmp_path}/meet", f"read x < {tmp_path}/meet"]  # each ends only with the other beside it
    scripts = [*meet, "sleep 0.05", "sleep 0.05", "true"]
    executor = make(slots=2)
    jobs = [job(f"t{i}", shell("train", f"echo + >> {log}; {one}; echo - >> {log}")) for i, one in enumerate(scripts)]
    assert {one.outcome for one in ends(executor, executor.submit(jobs))} == {TrialOutcome.COMPLETED}
    beside, most = 0, 0
    for line in Path(log).read_text().split():
        beside += 1 if line == "+" else -1
        most = max(most, beside)
    assert (beside, most) == (0, 2)


@pytest.mark.process
def test_a_wide_job_runs_alone_and_one_wider_than_the_machine_runs(make: Make, tmp_path: Path) -> None:
    executor = make(slots=2)
    narrow = shell("train", f"echo n >> {tmp_path}/log; sleep 0.1; echo n >> {tmp_path}/log")
    wide = shell("train", f"echo w >> {tmp_path}/log; sleep 0.05; echo w >> {tmp_path}/log")
    ends(executor, executor.submit([job("a", narrow), job("b", wide, cores=64), job("c", narrow)]))
    assert (tmp_path / "log").read_text().split() == ["n", "n", "w", "w", "n", "n"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("script", "outcome", "returncode", "signal"),
    [("exit 0", "completed", 0, None), ("exit 7", "failed", 7, None), ("kill -11 $$", "failed", None, 11)],
)
def test_the_exit_says_how_the_process_ended(
    make: Make, script: str, outcome: str, returncode: int | None, signal: int | None
) -> None:
    executor = make()
    [ended] = ends(executor, executor.submit([job("t", shell("train", script))]))
    assert (ended.outcome, ended.step, ended.returncode, ended.signal) == (outcome, "train", returncode, signal)
    assert "\n" not in ended.message
    assert ended.started <= ended.ended
    assert ended.started.endswith("Z")


@pytest.mark.process
def test_steps_run_in_order_and_stop_at_the_first_that_fails(make: Make, tmp_path: Path) -> None:
    executor = make()
    steps = [
        shell(name, f"echo {name} >> {tmp_path}/log; exit {code}") for name, code in (("a", 0), ("b", 3), ("c", 0))
    ]
    [ended] = ends(executor, executor.submit([job("t", *steps)]))
    assert (ended.outcome, ended.step, [one.returncode for one in ended.steps]) == ("failed", "b", [0, 3])
    assert (tmp_path / "log").read_text().split() == ["a", "b"]


@pytest.mark.process
def test_time_and_memory_are_those_of_the_step(make: Make) -> None:
    executor = make()
    busy = "import time\nx = b'x' * 60_000_000\nwhile time.process_time() < 0.2: pass"
    [ended] = ends(executor, executor.submit([job("t", python("train", busy), shell("predict", "true"))]))
    train, predict = ended.steps
    assert train.max_rss_bytes > 60_000_000 > predict.max_rss_bytes > 0
    assert train.cpu_seconds >= 0.2 > predict.cpu_seconds
    assert ended.max_rss_bytes == train.max_rss_bytes
    assert ended.seconds == pytest.approx(train.seconds + predict.seconds, abs=1e-5)


@pytest.mark.process
def test_a_step_past_its_limit_is_killed_and_its_children_with_it(make: Make, tmp_path: Path) -> None:
    executor = make()
    script = f"sleep 600 & echo $! > {tmp_path}/child; trap '' TERM; wait"
    train = replace(shell("train", script, limit=0.3), time_limit_origin="three times a tenth")
    [ended] = ends(executor, executor.submit([job("t", train, shell("predict", "true"))]))
    assert (ended.outcome, ended.step, ended.signal) == (TrialOutcome.TIMEOUT, "train", 9)
    assert ended.message == "train passed its limit of 0.3 s (three times a tenth)"
    assert 0.3 <= ended.seconds < PATIENCE_S / 2
    assert not alive(int((tmp_path / "child").read_text()))


@pytest.mark.process
def test_output_up_to_the_cap_is_kept_and_what_exceeds_it_counted(make: Make, tmp_path: Path) -> None:
    executor = make()
    fits = shell("train", "printf 12345; printf 67890 >&2", cap=10)
    bursts = shell("train", "printf 12345; printf 678901 >&2; sleep 0.05", cap=10)
    floods = shell("train", "yes", cap=100_000)
    refs = executor.submit([job("fits", fits), job("bursts", bursts), job("floods", floods)])
    fit, burst, flood = ends(executor, refs)
    assert (fit.outcome, fit.output_bytes) == (TrialOutcome.COMPLETED, 10)
    assert (burst.outcome, burst.output_bytes) == (TrialOutcome.OUTPUT_LIMIT, 11)
    assert flood.outcome is TrialOutcome.OUTPUT_LIMIT
    assert flood.output_bytes > 100_000
    for ref in refs:
        executor.fetch(ref, tmp_path / ref.handle)
    stored = [sum(log.stat().st_size for log in (tmp_path / ref.handle / "logs").iterdir()) for ref in refs]
    assert stored == [10, 10, 100_000]
    assert (tmp_path / refs[0].handle / "logs" / "train.out").read_text() == "12345"
    assert (tmp_path / refs[0].handle / "logs" / "train.err").read_text() == "67890"


@pytest.mark.process
def test_environment_and_input_are_exactly_what_the_step_says(make: Make, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("payload")
    show = "import os, sys\nprint(sorted(os.environ.items()))\nprint(sys.argv[1], os.getcwd(), sys.stdin.read() == '')"
    env = {"LC_ALL": "C", "FOLDER": "{folder}/train", "JSON": '{"lr": 1, "{unknown}": {}}', "BOTH": "{data}:{folder}"}
    step = Step("train", (sys.executable, "-I", "-S", "-c", show, "{data}/x"), "{data}", env, 20, 10_000)
    executor = make()
    refs = executor.submit([job("t", step, inputs={"data": tmp_path / "data"})])
    ends(executor, refs)
    executor.fetch(refs[0], tmp_path / "got")
    shown, rest = (tmp_path / "got" / "logs" / "train.out").read_text().splitlines()
    environment = dict(eval(shown))
    folder = environment["FOLDER"].removesuffix("/train")
    assert environment == {
        "LC_ALL": "C",
        "FOLDER": f"{folder}/train",
        "JSON": env["JSON"],
        "BOTH": f"{tmp_path}/data:{folder}",
    }
    assert Path(folder).is_absolute()
    assert rest == f"{tmp_path}/data/x {tmp_path}/data True"


@pytest.mark.process
@pytest.mark.parametrize(
    ("argv", "cwd"),
    [(("/nonexistent/program",), "{folder}"), (("no-such-program",), "{folder}"), (("true",), "/nonexistent")],
)
def test_a_command_that_cannot_be_run_fails_and_says_which(make: Make, argv: tuple[str, ...], cwd: str) -> None:
    executor = make()
    [ended] = ends(executor, executor.submit([job("t", Step("train", argv, cwd, {"PATH": "/usr/bin:/bin"}, 5, 100))]))
    assert (ended.outcome, ended.returncode) == (TrialOutcome.FAILED, 127)
    assert ("nonexistent" in ended.message) or ("no-such-program" in ended.message)
    assert "No such file" in ended.message


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")
def test_a_daemon_that_left_its_session_is_dead_when_the_step_is_over(make: Make, tmp_path: Path) -> None:
    executor = make(slots=2)
    own, other = tmp_path / "own", tmp_path / "other"
    neighbour = executor.submit([job("neighbour", python("train", DAEMON, str(other), "stay"))])
    until_running(executor, neighbour[0], other)
    refs = executor.submit([job("t", python("train", DAEMON, str(own)))])
    assert ends(executor, refs)[0].outcome is TrialOutcome.COMPLETED
    assert not alive(int(own.read_text()))
    assert alive(int(other.read_text())), "a neighbour's process must not be taken for a left-over"
    executor.cancel(neighbour)
    assert not alive(int(other.read_text()))


@pytest.mark.process
def test_a_key_submitted_twice_is_one_job(make: Make, tmp_path: Path) -> None:
    one = job("t", shell("train", f"echo x >> {tmp_path}/count; sleep 0.1"))
    executor = make()
    first = executor.submit([one, one])
    again = make().submit([one])
    assert first == again * 2
    assert ends(executor, first)[0].outcome is TrialOutcome.COMPLETED
    assert make().submit([one]) == again
    assert ends(make(), again)[0].outcome is TrialOutcome.COMPLETED
    assert (tmp_path / "count").read_text() == "x\n"


@pytest.mark.process
def test_find_knows_what_another_object_submitted_and_nothing_else(make: Make) -> None:
    assert make().find(["0badcafe.it.run_0001.t.a1"]) == {}
    refs = make().submit([job("t", shell("train", "true"))])
    assert make().find([refs[0].key, "0badcafe.it.run_0001.u.a1"]) == {refs[0].key: refs[0]}


@pytest.mark.process
def test_poll_answers_at_a_change_and_waits_for_one_otherwise(make: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    executor = make()
    refs = executor.submit([job("t", shell("train", f"read x < {tmp_path}/go"))])
    while executor.poll(refs, PATIENCE_S)[refs[0].key].phase is not Phase.RUNNING:
        pass
    begun = time.monotonic()
    assert executor.poll(refs, 0.2)[refs[0].key].phase is Phase.RUNNING
    assert time.monotonic() - begun >= 0.2
    (tmp_path / "go").write_text("x\n")
    assert executor.poll(refs, PATIENCE_S)[refs[0].key].phase is Phase.FINISHED
    assert executor.poll(refs, PATIENCE_S)[refs[0].key].phase is Phase.FINISHED
    assert executor.poll([], PATIENCE_S) == {}
    assert time.monotonic() - begun < PATIENCE_S


@pytest.mark.process
def test_cancel_ends_the_running_leaves_the_queued_unstarted_and_the_finished_alone(make: Make, tmp_path: Path) -> None:
    executor = make(slots=1)
    script = f"sleep 600 & echo $! > {tmp_path}/child; wait"
    done = executor.submit([job("done", shell("train", "true"))])
    ends(executor, done)
    refs = executor.submit(
        [job("runs", shell("train", script)), job("waits", shell("train", f"touch {tmp_path}/never"))]
    )
    until_running(executor, refs[0], tmp_path / "child")
    executor.cancel([*done, *refs])
    assert not alive(int((tmp_path / "child").read_text()))
    finished, running, queued = ends(executor, [*done, *refs])
    assert [one.outcome for one in (finished, running, queued)] == ["completed", "cancelled", "cancelled"]
    assert (running.step, queued.step, queued.steps) == ("train", "", ())
    executor.cancel([*done, *refs])
    assert not (tmp_path / "never").exists()
    executor.fetch(refs[1], tmp_path / "got")
    assert [file.name for file in (tmp_path / "got").iterdir()] == ["exit.json"]


@pytest.mark.process
def test_a_new_attempt_waits_for_the_end_of_the_last(make: Make, tmp_path: Path) -> None:
    executor = make()
    first = executor.submit([job("t", shell("train", "sleep 600"))])
    second = job("t", shell("train", "true"), attempt=2)
    with pytest.raises(ExecutorError, match="attempt 1 of t is not over"):
        executor.submit([second])
    executor.cancel(first)
    assert ends(executor, executor.submit([second]))[0].outcome is TrialOutcome.COMPLETED


@pytest.mark.process
def test_an_attempt_cannot_be_two_jobs(make: Make) -> None:
    executor = make()
    executor.submit([job("t", shell("train", "true"))])
    with pytest.raises(ExecutorError, match="is already job"):
        executor.submit([Job("another.key.t.a1", "t", 1, (shell("train", "true"),), {})])


@pytest.mark.process
def test_a_ref_that_was_never_submitted_is_refused(make: Make) -> None:
    executor = make()
    executor.submit([job("t", shell("train", "true"))])
    with pytest.raises(ExecutorError, match="never submitted"):
        executor.poll([Ref("0badcafe.it.run_0001.u.a1", "u.a1")], 0)


MESS = """
mkdir -p predict/deep model; echo weights > model/w; echo '{"loss": 1}' > train/metrics.json
ln -s /etc/passwd link; ln -s /etc dir; mkfifo pipe; echo 1 > one; ln one two
echo forged > exit.json; echo x > left_out.json; ln -s /etc model/etc
"""


@pytest.mark.process
def test_fetch_takes_regular_files_and_names_what_it_left_out(make: Make, tmp_path: Path) -> None:
    executor = make()
    refs = executor.submit([job("t", shell("train", MESS), shell("predict", "exit 0"))])
    ended = ends(executor, refs)[0]
    assert ended.outcome is TrialOutcome.COMPLETED
    executor.fetch(refs[0], tmp_path / "deep" / "got")
    got = tmp_path / "deep" / "got"
    files = sorted(str(path.relative_to(got)) for path in got.rglob("*") if path.is_file())
    logs = [f"logs/{step}.{end}" for step in ("predict", "train") for end in ("err", "out")]
    forged = ["%65xit.json", "%6Ceft_out.json"]
    assert files == [*forged, "exit.json", "left_out.json", *logs, "model/w", "train/metrics.json"]
    assert not [path for path in got.rglob("*") if path.is_symlink()]
    left_out = json.loads((got / "left_out.json").read_text())
    assert {one["path"]: one["reason"] for one in left_out["left_out"]} == {
        "dir": "a link",
        "link": "a link",
        "model/etc": "a link",
        "one": "a file with 2 links",
        "two": "a file with 2 links",
        "pipe": "a pipe, socket or device",
    }
    assert (left_out["count"], left_out["over"]) == (6, "")
    assert Exit.read(got / "exit.json") == ended


@pytest.mark.process
def test_fetch_is_whole_or_nothing_and_may_be_repeated(make: Make, tmp_path: Path) -> None:
    executor = make()
    os.mkfifo(tmp_path / "go")
    refs = executor.submit(
        [job("t", shell("train", f"read x < {tmp_path}/go; echo 1 > train/x")), job("u", shell("train", "true"))]
    )
    with pytest.raises(ExecutorError, match="is not over"):
        executor.fetch(refs[0], tmp_path / "got")
    (tmp_path / "go").write_text("x\n")
    ends(executor, refs)
    (tmp_path / ".got.part").mkdir()  # what a killed fetch leaves
    (tmp_path / ".got.part" / "half").touch()
    executor.fetch(refs[0], tmp_path / "got")
    assert not (tmp_path / ".got.part").exists()
    assert not (tmp_path / "got" / "half").exists()
    before = (tmp_path / "got").stat().st_mtime_ns
    executor.fetch(refs[0], tmp_path / "got")
    assert (tmp_path / "got").stat().st_mtime_ns == before
    with pytest.raises(ExecutorError, match="does not hold this attempt"):
        executor.fetch(refs[1], tmp_path / "got")
    with pytest.raises(ExecutorError, match=str(tmp_path / "go")):
        executor.fetch(refs[1], tmp_path / "go" / "below-a-file")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["go", "got", "workdir"]


@pytest.mark.process
def test_discard_waits_for_the_end_of_all_and_leaves_nothing(make: Make, tmp_path: Path) -> None:
    executor = make()
    nest = "import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')\nos.symlink('/etc', 'l'); os.chmod('.', 0)"
    done = executor.submit([job("t", python("train", nest))])
    assert ends(executor, done)[0].outcome is TrialOutcome.COMPLETED
    executor.fetch(done[0], tmp_path / "got")
    (left_out,) = json.loads((tmp_path / "got" / "left_out.json").read_text())["left_out"]
    assert left_out == {"path": "/".join("d" * 33), "reason": "deeper than 32"}
    refs = executor.submit([job("u", shell("train", "sleep 600"))])
    with pytest.raises(ExecutorError, match="1 jobs are not over"):
        executor.discard()
    executor.cancel(refs)
    executor.discard()
    executor.discard()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["got"]
    assert Path("/etc/passwd").exists()


# What all executors share


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (job("../up", shell("train", "true")), "trial '../up'"),
        (job("t", shell("train", "true"), attempt=0), "attempt 0"),
        (job("t"), "at least one step"),
        (job("t", shell("a", "true"), shell("a", "true")), "name of its own"),
        (job("t", shell("logs", "true")), "step 'logs'"),
        (job("t", shell("train", "true", limit=float("nan"))), "time_limit_s"),
        (job("t", shell("train", "true", cap=-1)), "output_bytes"),
        (job("t", Step("train", (), "/", {}, 1, 1)), "argv is empty"),
        (job("t", shell("train", "true"), inputs={"folder": Path("/")}), "'folder'"),
        (job("t", shell("train", "true"), inputs={"data": Path("/nonexistent")}), "/nonexistent"),
    ],
)
def test_a_job_that_cannot_be_run_as_written_is_refused_in_one_line(bad: Job, says: str) -> None:
    with pytest.raises(ExecutorError) as refused:
        check(bad)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_placeholders_are_filled_in_one_pass_and_other_braces_stay() -> None:
    step = Step("s", ("{folder}", "{data}{data}", "{other} {} {"), "{data}", {"{folder}": "{folder}"}, 1, 1)
    filled = fill(step, {"folder": "/f{data}", "data": "/d"})
    assert (filled.argv, filled.cwd) == (("/f{data}", "/d/d", "{other} {} {"), "/d")
    assert filled.env == {"{folder}": "/f{data}"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"steps": [], "outcome": "unknown"}', '{"steps": [{"name": 1}]}'])
def test_a_damaged_exit_document_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "exit.json").write_text(text)
    with pytest.raises(ExecutorError, match=r"exit\.json is not an exit document"):
        Exit.read(tmp_path / "exit.json")


def test_an_executor_is_found_by_name_or_by_module_and_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_cluster.py").write_text(
        "from autolab.executors.local import LocalExecutor\nclass Mine(LocalExecutor):\n    name = 'mine'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_executor("local") is LocalExecutor
    assert load_executor("my_cluster:Mine").name == "mine"
    assert [name for name, kind in EXECUTORS.items() if kind.name != name] == []


@pytest.mark.parametrize("name", ["lokal", "", ":", "nowhere.at_all:Class", "autolab.executors.local:Nothing"])
def test_an_unknown_executor_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ExecutorError, match="known are local") as refused:
        load_executor(name)
    assert "\n" not in str(refused.value)


def test_a_class_that_is_no_executor_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(ExecutorError, match="lacks location, submit, find, poll, fetch, cancel, discard"):
        load_executor("pathlib:Path")


@pytest.mark.parametrize("options", [{"slots": 0}, {"slots": True}, {"slots": "2"}, {"gpus": 1}])
def test_a_wrong_option_of_the_local_executor_is_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ExecutorError, match="slots"):
        LocalExecutor(tmp_path / "w", options)
