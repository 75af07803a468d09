"""Labs for tests: made and driven through the real command line, judged from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from warm import SHARED

TINY = Path(__file__).parent / "labs" / "tiny"


@dataclass
class Finished:
    code: int
    out: str
    err: str


@dataclass
class LabKit:
    """A lab in `root`; `counter` is the count of executions that its training keeps outside of it."""

    root: Path
    counter: Path
    env: dict[str, str] = field(default_factory=dict)

    def autolab(self, *words: str, timeout: float = 120, figures: bool = False, **env: str) -> Finished:
        """One command in a process of its own, forked from one that has imported everything (see warm.py).

        That one is busy with another command, or was started in another environment: the same as `exec`.
        """
        place = {**os.environ, **self.env, **env}
        if not SHARED.fits(place) or not SHARED.free.acquire(blocking=False):
            return self.exec(*words, timeout=timeout, **env)
        try:
            with tempfile.TemporaryDirectory(prefix="autolab-said-") as folder:
                out, err = Path(folder, "out"), Path(folder, "err")
                code = SHARED.run(self.root, *words, out=out, err=err, env=place, figures=figures, timeout=timeout)
                return Finished(code, out.read_text(), err.read_text())
        finally:
            SHARED.free.release()

    def exec(self, *words: str, timeout: float = 120, **env: str) -> Finished:
        """The same as a user starts it: an interpreter from its first line, fsync and figures as they are."""
        ended = subprocess.run(
            [sys.executable, "-m", "autolab", *words],
            cwd=self.root,
            env={**os.environ, **self.env, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Finished(ended.returncode, ended.stdout, ended.stderr)

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "autolab", *words],
            cwd=self.root,
            env={**os.environ, **self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def git(self, *words: str) -> str:
        ended = subprocess.run(["git", *words], cwd=self.root, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"git {words}: {ended.stderr}"
        return ended.stdout

    @property
    def store(self) -> Path:
        return self.root / ".git" / "autolab"

    def state(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.root / ".autolab" / "state.json").read_text())
        return value

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (self.store / "ledger.jsonl").read_text().split("\n") if line]
        return [line for line in lines if event is None or line["event"] == event]

    def iterations(self) -> list[Path]:
        """Their folders, oldest first; that of the calibrations is not among them."""
        return sorted((self.root / "experiments").glob("[0-9]*"))

    def executions(self) -> list[list[str]]:
        """Lines of the outside count: word, trial folder, seed, pid."""
        return [line.split()[:4] for line in self._count()]

    def tried(self) -> list[list[str]]:
        """Those of the iterations' runs alone, without the calibration's."""
        return [line.split()[:4] for line in self._count() if not line.split()[4].startswith("calibration")]

    def executed(self, word: str) -> Counter[str]:
        """How often each attempt said `word` (start, done) to the outside count: `<run>/<trial>/<attempt>` -> times."""
        lines = [line.split() for line in self._count()]
        return Counter("/".join([line[4], *line[1].split("/")[1:3]]) for line in lines if line[0] == word)

    def _count(self) -> list[str]:
        return self.counter.read_text().splitlines() if self.counter.exists() else []

    def tables(self) -> dict[str, Any]:
        """What a reader would compare: arms, values, intervals and verdicts, without ids, commits and times."""
        found: dict[str, Any] = {}
        calibrations = self.root / "experiments" / "calibration"
        named = [(str(number), folder) for number, folder in enumerate(self.iterations())]
        for number, folder in [*named, ("calibration", calibrations)]:
            for run in sorted((folder / "runs").glob("*")):
                manifest = json.loads((run / "run_manifest.json").read_text())
                trials = [(t["trial"], t["seed"], t["outcome"], t["score"]) for t in _used(manifest["trials"])]
                found[f"{number}/{run.name}"] = (
                    manifest["status"],
                    trials,
                    manifest["comparisons"],
                    manifest["reason"],
                )
            for name in ("arms", "pairs", "comparisons"):
                table = folder / "analysis" / "tables" / f"{name}.csv"
                found[f"{number}/{name}"] = _columns(table) if table.exists() else None
        return found


def _used(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The trials a judgement read: up to the first that failed. Which later ones had finished is chance."""
    failed = next((i for i, trial in enumerate(trials) if trial["outcome"] != "completed"), len(trials))
    return trials[: failed + 1]


VOLATILE = (
    *("commit", "run", "run_id", "iteration", "iteration_id", "key", "trial_folder"),
    *("seconds", "memory_gb", "max_rss_bytes"),
)


def _columns(table: Path) -> list[dict[str, str]]:
    lines = [line.split(",") for line in table.read_text().splitlines()]
    return [{k: v for k, v in zip(lines[0], row, strict=True) if k not in VOLATILE} for row in lines[1:]]


HELD_OUT = {"evaluate": {"script": "eval.py", "eval": "data/eval", "holdout": "data/holdout"}}
"""What a lab made with `holdout` has in its configuration."""


def make_lab(
    folder: Path,
    script: Any,
    *,
    config: dict[str, Any] | None = None,
    seed: int = 1,
    counter_name: str = "",
    holdout: bool = False,
) -> LabKit:
    """A tiny lab at `folder`/lab whose scripted researcher answers with `script`; `config` overrides keys.

    With `holdout` it has one: the rows of its evaluation split once more.
    """
    counter = folder / "count.txt"
    template = folder / "template"
    subprocess.run(["cp", "-r", str(TINY), str(template)], check=True)
    if holdout:
        subprocess.run(["cp", "-r", str(template / "data" / "eval"), str(template / "data" / "holdout")], check=True)
        config = HELD_OUT | (config or {})
    (template / "counter.txt").write_text(counter_name or str(counter))
    (template / ".autolab" / "script.yaml").write_text(yaml.safe_dump(script, sort_keys=False))
    path = template / ".autolab" / "config.yaml"
    path.write_text(_configured(path.read_text(), config or {}))
    root = folder / "lab"
    kit = LabKit(folder, counter)
    made = kit.autolab("init", str(root), "--template", str(template), "--seed", str(seed))
    assert made.code == 0, made.err
    kit.root = root
    return kit


def make_twin(folder: Path, script: Any, *, config: dict[str, Any] | None = None) -> LabKit:
    """A lab whose commit knows neither `folder` nor `script` nor `config`: all twins draw the same seeds."""
    kit = make_lab(folder, {}, counter_name="../../../../../count.txt")  # from the code export up to `folder`
    control = kit.root / ".autolab"
    (control / "script.yaml").write_text(yaml.safe_dump(script, sort_keys=False))
    (control / "config.yaml").write_text(_configured((control / "config.yaml").read_text(), config or {}))
    return kit


def _configured(text: str, config: dict[str, Any]) -> str:
    return yaml.safe_dump(each_idea(yaml.safe_load(text) | config), sort_keys=False)


def each_idea(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a lab that tests each idea to its end, unless `config` names the mode."""
    return config | {"test": {"mode": "each", **config.get("test", {})}}


# answers of a scripted researcher


def hypothesis(title: str = "A steeper slope", **more: Any) -> dict[str, Any]:
    base = {"title": title, "mechanism": "A steeper slope fits better.", "success": "val_loss falls by 0.05"}
    return {"output": {**base, "risk_bounds": ["none"], "references": [], **more}}


def design(name: str = "steep", **more: Any) -> dict[str, Any]:
    arms = {"baselines": [{"name": "baseline", "config_overrides": {}}], "variants": [{"name": name}]}
    return {"output": {"description": "Compare slopes.", **arms, **more}}


def implementation(width: float | str = 4.0, **more: Any) -> dict[str, Any]:
    files = [{"path": "models/width.py", "content": f"WIDTH = {width}\n"}]
    return {"output": {"plan": "Set the slope.", "files": files, **more}}


def review(*findings: dict[str, Any]) -> dict[str, Any]:
    return {"output": {"findings": list(findings)}}


def docs(paper: str | None = "The slope matters.", **more: Any) -> dict[str, Any]:
    update = [{"path": "paper/paperbanana.md", "text": paper}] if paper else []
    words = {"observation": "The loss changed.", "inference": "Slope matters.", "claim": "None beyond this lab."}
    return {"output": {**words, "paper": update, **more}}


def decision(what: str = "new_hypothesis", reason: str = "more to find") -> dict[str, Any]:
    return {"output": {"decision": what, "reason": reason}}


def iteration(**stages: Any) -> dict[str, Any]:
    """One iteration's answers; a stage given as a list answers several asks."""
    base: dict[str, Any] = {
        "hypothesis": hypothesis(),
        "design": design(),
        "implementation": implementation(),
        "implementation_review": review(),
        "update_docs": docs(),
        "decide_repeat": decision(),
    }
    return {name: value if isinstance(value, list) else [value] for name, value in (base | stages).items()}


def batch(*ideas: tuple[str, float | str]) -> dict[str, Any]:
    """The answers of a batch in mode `explore`: title and width of each idea; ideas that come first have none."""
    return {
        "hypothesis": [hypothesis(title) for title, _ in ideas],
        "implementation": [implementation(width) for _, width in ideas],
        "implementation_review": [review() for _ in ideas],
    }


CLAIM: dict[str, Any] = {}
"""A claim's place in a script: the engine asks for nothing."""


def script(*iterations: dict[str, Any]) -> dict[str, Any]:
    return {"iterations": list(iterations)}


HELPS = iteration()
NOTHING = iteration(
    hypothesis=hypothesis("A comment"),
    design=design("comment"),
    implementation={
        "output": {
            "plan": "Say it.",
            "edits": [{"path": "models/width.py", "search": "WIDTH", "replace": "# the slope\nWIDTH"}],
        }
    },
)


class Kept:
    """A lab as it stands now, kept aside so that a test may break it and the next one finds it as it was.

    It comes back at the same path with the same times: to Autolab nothing has happened.
    """

    def __init__(self, kit: LabKit) -> None:
        self.kit, self._copy = kit, kit.root.parent / f"{kit.root.name}.kept"
        subprocess.run(["cp", "-a", str(kit.root), str(self._copy)], check=True)
        self._count = kit.counter.read_bytes() if kit.counter.exists() else b""

    def back(self) -> LabKit:
        subprocess.run(["chmod", "-R", "u+w", str(self.kit.root)], check=True)
        subprocess.run(["rm", "-rf", str(self.kit.root)], check=True)
        subprocess.run(["cp", "-a", str(self._copy), str(self.kit.root)], check=True)
        self.kit.counter.write_bytes(self._count)
        return self.kit
