"""Which level is used, by whose word, and what is said of it, through the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import HELPS, TINY, Finished, LabKit, design, each_idea, implementation, iteration, review, script

from autolab.sandbox import probe
from autolab.sandbox.box import LEVELS, find_program
from autolab.trials import containment

NO_BUBBLEWRAP = 'mount --bind /dev/null "$0" && exec "$@"'
NO_NAMESPACES = 'echo 0 > /proc/sys/user/max_mnt_namespaces && exec "$@"'
LOOP = ("loop", "--max-iterations", "1")


def lab(folder: Path, answers: Any = None, **config: Any) -> LabKit:
    """The tiny lab without its counter outside, by the built-in researcher or a script, contained."""
    template = folder / "template"
    shutil.copytree(TINY, template)
    if answers is None:
        train = template / "train.py"
        train.write_text(train.read_text().replace("from models.width import WIDTH", "WIDTH = 2.0  # slope"))
    else:
        (template / ".autolab" / "script.yaml").write_text(yaml.safe_dump(answers))
        config["researcher"] = {"name": "scripted", "script": ".autolab/script.yaml"}
    path = template / ".autolab" / "config.yaml"
    told = {"researcher": {"name": "offline"}, "containment": "full"} | config
    path.write_text(yaml.safe_dump(each_idea(yaml.safe_load(path.read_text()) | told)))
    kit = LabKit(folder, folder / "count.txt")
    made = kit.autolab("init", str(folder / "lab"), "--template", str(template), "--seed", "3")
    assert made.code == 0, made.err
    kit.root = folder / "lab"
    return kit


def without_bubblewrap(kit: LabKit, *words: str) -> Finished:
    """A command that finds no bubblewrap at its place: it is covered in a mount namespace of the command's own."""
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    hidden = ["unshare", *as_root, "--mount", "sh", "-c", NO_BUBBLEWRAP, find_program("bwrap")]
    return ended([*hidden, *(as_myself() if as_root else ())], kit, words)


def without_namespaces(kit: LabKit, *words: str) -> Finished:
    """A command whose bubblewrap is there, and gets no mount namespace from the kernel."""
    return ended(["unshare", "--user", "--map-root-user", "sh", "-c", NO_NAMESPACES, "sh", *as_myself()], kit, words)


def as_myself() -> list[str]:
    """What gives a plain user back their own number, below a shell that was root in a namespace of its own."""
    if os.geteuid() == 0:
        return []
    return ["unshare", "--user", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]


def ended(before: list[str], kit: LabKit, words: tuple[str, ...]) -> Finished:
    command = [*before, sys.executable, "-m", "autolab", *words]
    done = subprocess.run(command, cwd=kit.root, capture_output=True, text=True, timeout=120, check=False)
    return Finished(done.returncode, done.stdout, done.stderr)


def manifests(kit: LabKit) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(kit.root.glob("experiments/*/runs/*/run_manifest.json"))]


def search(kit: LabKit) -> dict[str, Any]:
    """The manifest of the one search, calibration and confirmation aside."""
    (found,) = (manifest for manifest in manifests(kit) if manifest["kind"] == "search")
    return found


def summary(kit: LabKit) -> str:
    return next((kit.root / "experiments").glob("*_h1/analysis/summary.md")).read_text()


def report(kit: LabKit) -> str:
    return next((kit.root / "9_reports").glob("*_h1*.md")).read_text()


@pytest.mark.process
def test_a_scripted_loop_runs_at_full_and_the_record_says_by_what(tmp_path: Path) -> None:
    kit = lab(tmp_path, script(HELPS))
    ended = kit.autolab(*LOOP)
    assert ended.code == 0 and "verdict: supported" in ended.out, ended.out + ended.err
    found = manifests(kit)
    assert sorted(manifest["kind"] for manifest in found) == ["calibrate", "confirm", "search"]
    for manifest in found:
        assert manifest["containment"] == "full"
        assert {trial["contained"]["level"] for trial in manifest["trials"]} == {"full"}
        assert set(manifest["trials"][0]["contained"]) == {"level", "memory", "processes", "disk"}
    assert "- containment of the trials: full" in summary(kit) and "ontainment of the trials" not in report(kit)


@pytest.mark.process
def test_all_levels_give_the_same_numbers(tmp_path: Path) -> None:
    tables = []
    for level in LEVELS:
        (tmp_path / level).mkdir()
        kit = lab(tmp_path / level, script(HELPS))
        assert kit.autolab(*LOOP, "--containment", level).code == 0
        assert {manifest["containment"] for manifest in manifests(kit)} == {level}
        tables.append([(trial["trial"], trial["seed"], trial["score"]) for trial in search(kit)["trials"]])
    assert tables[0] == tables[1] == tables[2]


@pytest.mark.process
def test_without_bubblewrap_the_built_in_researcher_goes_on_at_partial_and_says_so(tmp_path: Path) -> None:
    kit = lab(tmp_path)
    ended = without_bubblewrap(kit, *LOOP)
    assert ended.code == 0, ended.out + ended.err
    assert "containment: partial, not full: bwrap: bwrap was not found in /usr/bin" in ended.out
    assert "install bubblewrap" in ended.out
    assert manifests(kit)[0]["containment"] == "partial" and "- Containment of the trials: partial" in report(kit)


@pytest.mark.process
def test_without_bubblewrap_a_models_code_is_refused_unless_the_user_says_so(tmp_path: Path) -> None:
    kit = lab(tmp_path, script(HELPS))
    ended = without_bubblewrap(kit, *LOOP)
    assert ended.code == 1 and len(ended.err.splitlines()) == 1, ended.err
    assert "code of researcher scripted needs it" in ended.err and "--containment partial" in ended.err
    assert manifests(kit) == [] and kit.iterations() == [], "nothing was begun"
    ended = without_bubblewrap(kit, *LOOP, "--containment", "partial")
    assert ended.code == 0 and manifests(kit)[0]["containment"] == "partial"


@pytest.mark.process
def test_bubblewrap_is_not_asked_for_where_it_is_installed(tmp_path: Path) -> None:
    kit = lab(tmp_path)
    assert "Permission" not in (done := without_namespaces(kit, *LOOP)).err
    assert done.code == 0, done.out + done.err
    assert "containment: partial, not full: bwrap: the sandbox could not be put up: bwrap:" in done.out
    assert "let bubblewrap make namespaces" in done.out and "install bubblewrap" not in done.out
    said = without_namespaces(kit, "doctor").out
    assert "full is not possible" in said and "let bubblewrap make namespaces" in said and "install" not in said
    assert containment.ability(kit.store).level == "full", "what the user has repaired since is seen"


@pytest.mark.parametrize(
    ("setting", "way"),
    [
        ("kernel/unprivileged_userns_clone 0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces 0", "sysctl -w user.max_user_namespaces=10000"),
        ("kernel/apparmor_restrict_unprivileged_userns 1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
        ("kernel/unprivileged_userns_clone 1", "let bubblewrap make namespaces (in a container"),
    ],
)
def test_the_setting_that_forbids_namespaces_is_named(setting: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file, value = setting.split()
    settings = {f"/proc/sys/{file}": value}
    monkeypatch.setattr(containment, "read_line", lambda path: settings.get(str(path), ""))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert way in containment.way_to_full()


@pytest.mark.process
def test_none_is_said_wherever_the_numbers_are(tmp_path: Path) -> None:
    kit = lab(tmp_path, script(HELPS))
    assert kit.autolab(*LOOP, "--containment", "none").code == 0
    assert "- Containment of the trials: none, so their programs had the rights of the user " in report(kit)


@pytest.mark.process
def test_what_works_is_asked_once_for_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = containment.ability(tmp_path)
    monkeypatch.setattr(containment, "_probe_levels", lambda: pytest.fail("asked again"))
    assert containment.ability(tmp_path) == first
    monkeypatch.setattr(containment, "_this_machine", lambda: "another")
    with pytest.raises(pytest.fail.Exception, match="asked again"):
        containment.ability(tmp_path)


def test_a_layer_that_does_not_hold_costs_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [probe.Layer("network", False, "a probe got through")]
    monkeypatch.setattr("autolab.trials.containment.probe", lambda level: layers if level == "full" else [])
    why = "network: a probe got through"
    assert containment._probe_levels() == containment.Ability("partial", why, "`autolab doctor` shows each layer")


@pytest.mark.process
@pytest.mark.parametrize("folder", ["/tmp", "/var/tmp", ""])
@pytest.mark.parametrize("level", ["full", "partial"])
def test_every_layer_holds_wherever_temporary_files_lie(
    folder: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a user without rights, which root without a user of its own is too: inside /tmp is theirs to write."""
    monkeypatch.setattr(tempfile, "tempdir", folder or str(tmp_path))
    whole = probe.Box
    monkeypatch.setattr(probe, "Box", lambda level="none", **more: whole(level=level, without=("uid",), **more))
    layers = [layer for layer in probe.probe(level) if layer.name != "own user"]
    assert {"files: read outside", "files: write outside", "network", "signals"} <= {layer.name for layer in layers}
    assert [layer for layer in layers if not layer.holds] == []


@pytest.mark.process
def test_a_file_of_the_same_path_inside_is_no_escape_and_the_hosts_own_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims: dict[str, Any] = {"content": "another", "append": None, "connect": None, "signal": None}
    claims |= {"command line": "another", "unshare": -1, "capabilities": 0, "uid": -1}
    monkeypatch.setattr(probe, "_claims", lambda place, box: claims)
    assert not any(probe._harm(probe.Box()).values())

    def write(place: Path, box: probe.Box) -> dict[str, Any]:
        (place / "aim").write_text("changed, and silent about it")
        return claims

    monkeypatch.setattr(probe, "_claims", write)
    assert [name for name, done in probe._harm(probe.Box()).items() if done] == ["files: write outside"]


@pytest.mark.process
def test_a_process_of_the_same_number_inside_is_not_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = probe._claims

    def first_process(place: Path, box: probe.Box) -> dict[str, Any]:
        target = place / "target.json"
        target.write_text(json.dumps(json.loads(target.read_text()) | {"pid": 1}))
        claims = whole(place, box)
        assert claims["command line"]
        return claims

    monkeypatch.setattr(probe, "_claims", first_process)
    harm = probe._harm(probe.Box(level="full"))
    assert not harm["signals"] and not harm["processes of others"]


@pytest.mark.process
@pytest.mark.parametrize("level", ["full", "partial"])
@pytest.mark.parametrize("without", ["net", "seccomp", "mounts"])
def test_the_probes_bite_where_a_layer_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, without: str
) -> None:
    """Taken away on purpose, each is noticed: a probe that never fails would say nothing."""
    if level == "partial" and without != "seccomp":
        without = "landlock"
    left_out = (without, "uid") if without == "mounts" else (without,)  # the folders on the way are not for everyone
    whole = probe.Box
    monkeypatch.setattr(probe, "Box", lambda level="none", **more: whole(level=level, without=left_out, **more))
    broken = {layer.name for layer in probe.probe(level) if not layer.holds}
    expected = {"net": {"network"}, "mounts": {"files: read outside"}, "landlock": {"files: read outside"}}
    assert expected.get(without, {"new namespaces"}) <= broken, broken


@pytest.mark.process
def test_doctor_shows_every_layer_by_a_probe(tmp_path: Path) -> None:
    kit = LabKit(tmp_path, tmp_path / "count.txt")
    said = kit.autolab("doctor").out
    (line,) = (line for line in said.splitlines() if "full works; probes were stopped at: " in line)
    for layer in ("files: read outside", "network", "signals", "new namespaces", "memory", "processes", "disk"):
        assert layer in line


@pytest.mark.process
def test_a_candidate_that_reaches_out_fails_and_the_reason_is_in_the_record(tmp_path: Path) -> None:
    aim = tmp_path / "aim.txt"
    aim.write_text("as it was")
    code = f"4.0\n\nimport sys\n\nif not sys.argv[1:]:\n    open({str(aim)!r}, 'r+').write('reached')\n"
    kit = lab(
        tmp_path,
        script(
            iteration(
                implementation=[implementation(code), implementation()], implementation_review=[review(), review()]
            )
        ),
    )
    ended = kit.autolab(*LOOP)
    assert ended.code == 0 and aim.read_text() == "as it was", ended.out + ended.err
    assert "Error: [Errno" in ended.out and "aim.txt" in ended.out


@pytest.mark.process
def test_a_program_that_is_not_inside_is_named_with_the_way_out(tmp_path: Path) -> None:
    tool = tmp_path / "tools" / "trainer"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexec python3 -S -B train.py\n")
    tool.chmod(0o755)
    kit = lab(tmp_path, script(HELPS), train={"command": f"{tool}", "time_limit_s": 30})
    ended = kit.autolab(*LOOP)
    assert ended.code == 1 and len(ended.err.splitlines()) == 1, ended.err
    assert "calibrate: calibration_0001: trial baseline-s0: failed" in ended.err and "reads" in ended.err
    path = kit.root / ".autolab" / "config.yaml"
    told = yaml.safe_load(path.read_text())
    told["train"]["reads"] = [str(tool.parent)]
    path.write_text(yaml.safe_dump(told))
    again = kit.autolab(*LOOP)
    assert again.code == 0, again.err


@pytest.mark.process
def test_what_reads_names_must_be_absolute(tmp_path: Path) -> None:
    kit = lab(tmp_path, script(HELPS), train={"command": "{python} -S -B train.py"})
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(path.read_text().replace("train:\n", "train:\n  reads: [data]\n"))
    ended = kit.autolab(*LOOP)
    assert ended.code == 1 and "reads: 'data' is not the absolute path of a file or folder" in ended.err


@pytest.mark.process
def test_fifty_honest_trials_raise_no_alarm(tmp_path: Path) -> None:
    answers = iteration(design=design(seeds=list(range(25))), implementation=implementation(2.2))
    kit = lab(tmp_path, script(answers))
    ended = kit.autolab(*LOOP)
    assert ended.code == 0, ended.out + ended.err
    assert len(search(kit)["trials"]) == 50
    trials = [trial for manifest in manifests(kit) for trial in manifest["trials"]]
    assert {trial["outcome"] for trial in trials} == {"completed"}
    assert not any(trial["suspicions"] for trial in trials) and "suspicious" not in ended.out


@pytest.mark.process
def test_a_lab_made_with_a_narrow_umask_runs_too(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert lab(tmp_path, script(HELPS)).autolab(*LOOP).code == 0
    finally:
        os.umask(before)


@pytest.mark.process
@pytest.mark.root("its trials are another user's, who cannot read what is closed")
def test_training_data_that_the_trials_user_may_not_read_are_named(tmp_path: Path) -> None:
    kit = lab(tmp_path, script(HELPS))
    path = kit.root / ".autolab" / "config.yaml"
    private = kit.root / "private"
    shutil.copytree(kit.root / "data" / "train", private)
    (private / "points.json").chmod(0o600)
    path.write_text(path.read_text().replace("data: data/train", "data: private"))
    ended = kit.autolab(*LOOP)
    assert ended.code == 1 and "points.json: trials may not read it" in ended.err and "chmod -R a+rX" in ended.err


@pytest.mark.process
def test_evaluation_data_inside_of_the_training_data_are_refused(tmp_path: Path) -> None:
    kit = lab(tmp_path, script(HELPS))
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(path.read_text().replace("data: data/train", "data: data"))
    ended = kit.autolab(*LOOP)
    assert ended.code == 1 and "evaluate.eval: data/eval lies in data (data), which trainings read" in ended.err
