"""The policy ladder: what the lab's own programs say of a candidate, by their exit codes alone."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from lab_kit import hypothesis, implementation, iteration, make_lab, script

from autolab.errors import RecordError
from autolab.lab.schemas.config import VerifierPolicy
from autolab.verifiers.programs import CheckInputs, run_checks

pytestmark = pytest.mark.process

ID = "2026-02-12T23-30-00Z_h1"
HYPOTHESIS = """\
---
{id: h1, title: t, metric: val_loss, direction: minimize, success_delta: 0.01, success: s,
 risk_bounds: [], mechanism: m}
---
prose
"""
DESIGN = f"""\
{{id: e1, iteration_id: {ID}, hypothesis_id: h1, entrypoint: {{command: "{{python}} train.py"}},
 reproducibility: {{seeds: [1, 2]}}, metrics: {{primary: val_loss, success_delta: 0.01}},
 baselines: [{{name: base}}], variants: [{{name: wide}}]}}
"""


@pytest.fixture
def ground(tmp_path: Path) -> CheckInputs:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "ok.py").write_text("print('fine')\n")
    return CheckInputs(folder, sys.executable, ID, tmp_path / "scratch", tmp_path / "logs")


def program(ground: CheckInputs, text: str, name: str = "program.py") -> str:
    (ground.folder / name).write_text(textwrap.dedent(text))
    return f"{{python}} {name}"


def policy(**keys: object) -> VerifierPolicy:
    return VerifierPolicy.from_value({"time_limit_s": 30, **keys}, "verifier_policy.yaml")


def test_without_commands_only_the_interpreter_is_started(ground: CheckInputs) -> None:
    result = run_checks(policy(), ground)
    assert result.checks == {
        "tests": "skip",
        "dry_run": "skip",
        "env_smoke": "pass",
        "schema": "skip",
        "syntax": "pass",
        "summary": "skip",
    }
    assert result.findings == () and result.summary is None


def test_a_file_that_does_not_compile_is_the_only_finding_and_no_program_runs(ground: CheckInputs) -> None:
    line = 'net.py:2: invalid syntax: "def f(x:"'
    result = run_checks(policy(test_command="{python} ok.py"), replace(ground, syntax_errors={"net.py": line}))
    assert [(finding.check, finding.message, finding.file) for finding in result.findings] == [
        ("syntax", line, "net.py")
    ]
    assert {name for name, status in result.checks.items() if status != "skip"} == {"syntax"}
    assert not ground.logs.exists() and not ground.scratch.exists()


def test_a_newer_python_is_asked_about_what_ours_cannot_compile(ground: CheckInputs) -> None:
    program(ground, "raise SystemExit('it is compiled, and not run')", "known.py")
    program(ground, "x = 1\nreturn x\n", "broken.py")
    errors = {name: f"{name}:1: ours does not know this" for name in ("known.py", "broken.py")}
    result = run_checks(policy(), replace(ground, syntax_errors=errors, newer_python=True))
    messages = [finding.message for finding in result.findings]
    assert messages == ["broken.py:2: 'return' outside function: \"return x\""]
    assert result.checks["syntax"] == "fail" and result.checks["env_smoke"] == "skip"
    only_known = replace(ground, syntax_errors={"known.py": errors["known.py"]}, newer_python=True)
    assert run_checks(policy(), only_known).checks["syntax"] == "pass"


def test_the_seed_of_a_check_is_0_in_its_command_too(ground: CheckInputs) -> None:
    says = program(ground, "import os, sys; sys.exit(sys.argv[1:] != ['--seed=0', os.environ['AUTOLAB_SEED']])")
    result = run_checks(policy(dry_run_command=says + " --seed={seed} {seed}"), ground)
    assert (result.checks["dry_run"], result.findings) == ("pass", ())


def test_every_configured_rung_runs_and_passes(ground: CheckInputs) -> None:
    (ground.folder / "tests").mkdir()
    (ground.folder / "tests" / "test_model.py").write_text("")
    text = """
        import json, os, pathlib
        out = pathlib.Path(os.environ["AUTOLAB_TRIAL_DIR"]) / "summary.json"
        out.write_text(json.dumps({"parameters": 7, "input_shape": [64], "layers": [{"name": "fc"}]}))
    """
    summarise = program(ground, text, "summarise.py")
    commands = {f"{name}_command": "{python} ok.py" for name in ("test", "dry_run", "smoke")}
    result = run_checks(policy(**commands, summary_command=summarise, python_versions=">=3.8,<4"), ground)
    assert set(result.checks.values()) == {"pass", "skip"} and result.checks["schema"] == "skip"
    assert result.summary is not None and result.summary.parameters == 7 and result.summary.input_shape == (64,)
    assert (ground.logs / "tests.log").read_text() == "fine\n"


def test_what_is_required_and_missing_fails_with_the_way_out(ground: CheckInputs) -> None:
    result = run_checks(policy(require_tests=True, require_dry_run=True), ground)
    assert (result.checks["tests"], result.checks["dry_run"]) == ("fail", "fail")
    assert "has no test_command: set it" in result.findings[0].message
    (finding,) = run_checks(policy(require_tests=True, test_command="{python} ok.py"), ground).findings
    assert finding.message == "tests are required and the candidate has none: add tests/test_*.py"


def test_an_exit_code_alone_decides_whatever_is_printed(ground: CheckInputs) -> None:
    loud = program(ground, "print('ALL FAILED, <promise>DONE</promise>')", "loud.py")
    quiet = program(ground, "raise SystemExit(3)", "quiet.py")
    assert run_checks(policy(dry_run_command=loud), ground).checks["dry_run"] == "pass"
    result = run_checks(policy(dry_run_command=quiet), ground)
    assert result.checks["dry_run"] == "fail"
    assert "exit code 3; it printed nothing" in result.findings[0].message


def test_a_finding_carries_the_last_lines_and_is_bounded(ground: CheckInputs) -> None:
    text = "for n in range(500): print('line', n, 'x' * 60)\nraise ValueError('shapes 3 and 4')"
    (finding,) = run_checks(policy(dry_run_command=program(ground, text)), ground).findings
    assert "ValueError: shapes 3 and 4" in finding.message and "line 100 " not in finding.message
    assert len(finding.message) < 2_500


def test_a_broken_environment_skips_the_rungs_above_it(ground: CheckInputs) -> None:
    result = run_checks(
        policy(smoke_command=program(ground, "import no_such_module"), dry_run_command="{python} ok.py"), ground
    )
    assert (result.checks["env_smoke"], result.checks["dry_run"]) == ("fail", "skip")
    assert "no_such_module" in result.findings[0].message and len(result.findings) == 1


def test_a_missing_program_is_one_line_with_the_way_out(ground: CheckInputs) -> None:
    (finding,) = run_checks(policy(dry_run_command="no-such-program --x"), ground).findings
    assert finding.message == (
        "no-such-program: program not found: install it or change dry_run_command in .autolab/verifier_policy.yaml"
    )
    (finding,) = run_checks(policy(), replace(ground, python="/no/such/python")).findings
    assert finding.message == "/no/such/python: program not found: install it or change python in .autolab/config.yaml"


def test_an_unreadable_command_line_is_the_users_and_raises_one_line(ground: CheckInputs) -> None:
    with pytest.raises(RecordError, match=r"verifier_policy\.yaml: dry_run: .* is not a command line: No closing"):
        run_checks(policy(dry_run_command="echo 'open"), ground)


def test_a_python_of_the_wrong_version_is_named(ground: CheckInputs) -> None:
    (finding,) = run_checks(policy(python_versions=">=3.0,<3.5"), ground).findings
    assert "wants >=3.0,<3.5" in finding.message
    with pytest.raises(RecordError, match="python_versions: 'new' is not understood"):
        run_checks(policy(python_versions="new"), ground)


def test_a_check_sees_a_small_environment_and_nothing_of_the_users(
    ground: CheckInputs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    text = "import os\nfor name in sorted(os.environ): print(name, os.environ[name])"
    configured = replace(ground, config=tmp_path / "arm.json", data=tmp_path / "data")
    assert run_checks(policy(dry_run_command=program(ground, text)), configured).checks["dry_run"] == "pass"
    seen = dict(line.split(" ", 1) for line in (ground.logs / "dry_run.log").read_text().splitlines())
    allowed = {"PATH", "LANG", "HOME", "TMPDIR", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONUNBUFFERED"}
    allowed |= {f"{library}_NUM_THREADS" for library in ("OMP", "MKL", "OPENBLAS")}
    allowed |= {f"AUTOLAB_{name}" for name in ("TRIAL_DIR", "SEED", "CONFIG", "DATA")}
    assert set(seen) - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"} == allowed
    assert seen["AUTOLAB_TRIAL_DIR"] == str(ground.scratch / "dry_run") and seen["HOME"] == seen["TMPDIR"]


def test_a_check_sees_the_variables_of_a_training(tmp_path: Path) -> None:
    """Those that `train.env` names too: without them this candidate's dry run fails, and its training would not."""
    code = '4.0\nimport os\nassert os.environ["CORPUS"] == "/corpus"\nprint("VARIABLES", *sorted(os.environ))'
    train = {"command": "{python} -S -B train.py", "time_limit_s": 30, "env": ["CORPUS"]}
    metric = {"primary": "train_loss", "direction": "minimize", "success_delta": 0.05}
    config = {"train": train, "metric": metric, "evaluate": None, "predict": None}
    claim = hypothesis(metric="train_loss", direction="minimize")
    answers = script(iteration(hypothesis=claim, implementation=implementation(code)))
    lab = make_lab(tmp_path, answers, config=config)
    done = lab.autolab("loop", "--max-iterations", "1", CORPUS="/corpus")
    assert done.code == 0, done.err
    (dry_run,) = lab.root.glob(".autolab/logs/iterations/*_h1/checks/dry_run.log")
    (training, *_) = lab.root.glob("experiments/*_h1/runs/run_0001/trials/steep-s0/a1/logs/train.out")
    in_check, in_training = (
        next(line for line in path.read_text().splitlines() if line.startswith("VARIABLES"))
        for path in (dry_run, training)
    )
    assert "CORPUS" in in_check.split() and in_check == in_training


def test_commands_of_the_seed_find_interpreter_iteration_and_its_folder(ground: CheckInputs, tmp_path: Path) -> None:
    experiment = tmp_path / "lab" / "experiments" / ID
    experiment.mkdir(parents=True)
    text = "import sys\nopen(sys.argv[2]).read(); assert sys.argv[3] == sys.argv[4], sys.argv"
    program(ground, text)
    command = "./venv/bin/python program.py --config experiments/<ITERATION_ID>/design.yaml <ITERATION_ID> " + ID
    (experiment / "design.yaml").write_text("x: 1\n")
    result = run_checks(policy(dry_run_command=command), replace(ground, experiment=experiment))
    assert result.checks["dry_run"] == "pass"
    assert result.checks["schema"] == "fail"
    assert {finding.file for finding in result.findings} == {
        f"experiments/{ID}/{name}" for name in ("design.yaml", "hypothesis.md")
    }


def test_the_schema_rung_reads_design_and_hypothesis(ground: CheckInputs, tmp_path: Path) -> None:
    (tmp_path / "design.yaml").write_text(DESIGN)
    (tmp_path / "hypothesis.md").write_text(HYPOTHESIS)
    there = replace(ground, experiment=tmp_path)
    assert run_checks(policy(), there).checks["schema"] == "pass"
    (tmp_path / "hypothesis.md").write_text("no front matter")
    result = run_checks(policy(), there)
    assert result.checks["schema"] == "fail" and "hypothesis.md: line 1: no front matter" in result.findings[0].message


def test_a_program_past_its_limit_is_said_to_be(ground: CheckInputs) -> None:
    result = run_checks(policy(dry_run_command=program(ground, "while True: pass"), time_limit_s=0.5), ground)
    assert result.checks["dry_run"] == "fail"
    assert "still running after 0.5 s and ended" in result.findings[0].message


def test_a_program_that_was_killed_is_named_with_its_signal(ground: CheckInputs) -> None:
    (finding,) = run_checks(policy(dry_run_command=program(ground, "import os; os.abort()")), ground).findings
    assert "was killed by SIGABRT: it gave up by itself" in finding.message
    assert finding.message.endswith("; it printed nothing")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("pass", "must write it to AUTOLAB_TRIAL_DIR"),
        ("out.write_text('{')", "not JSON"),
        ("out.write_text('{\"parameters\": -1}')", "summary.json: parameters"),
        ('out.write_text(\'{"parameters": 1, "accuracy": 1}\')', "unknown key"),
        (
            "(out.parent / 'real').write_text('{\"parameters\": 1}'); out.symlink_to(out.parent / 'real')",
            "summary.json:",
        ),
        ("os.mkfifo(out)", "not a regular file"),
        ("out.write_bytes(b' ' * 2_000_000)", "more than the 1000000 allowed"),
        ("out.write_bytes(b'\\xff')", "utf-8"),
        ("raise RuntimeError('no model')", "no model"),
    ],
)
def test_a_summary_that_is_no_summary_fails_with_its_reason(ground: CheckInputs, body: str, says: str) -> None:
    text = f"import os, pathlib\nout = pathlib.Path(os.environ['AUTOLAB_TRIAL_DIR']) / 'summary.json'\n{body}\n"
    result = run_checks(policy(summary_command=program(ground, text)), ground)
    assert result.checks["summary"] == "fail" and result.summary is None
    assert says in result.findings[0].message


def test_a_summary_of_an_earlier_attempt_does_not_count(ground: CheckInputs) -> None:
    (ground.scratch / "summary").mkdir(parents=True)
    (ground.scratch / "summary" / "summary.json").write_text('{"parameters": 1}')
    (ground.scratch / "summary-2" / "summary.json").mkdir(parents=True)
    assert run_checks(policy(summary_command="{python} ok.py"), ground).checks["summary"] == "fail"
