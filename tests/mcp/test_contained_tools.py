"""The tools with real trainings, which run contained: the first look at the training, and what it is refused for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adoption_kit import DESCENT, repository
from lab_kit import HELPS, LabKit, make_lab, script
from tools_kit import agent, needs_full

pytestmark = pytest.mark.process

REACH = "from pathlib import Path\n" + DESCENT + "print(f\"val loss {-len(list(Path('OUTSIDE').iterdir())):.1f}\")\n"
"""A candidate whose score is better the more it sees of a folder that is not its own."""


@needs_full
def test_the_training_is_looked_at_once_with_the_users_flags_and_runs_contained(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"fit.py": DESCENT, "notes.md": "mine\n"})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("mine")
    with agent(kit) as client:
        asked = client.call("compare", settings={"lr": 0.2})
        refused = client.answered(asked["id"])
        assert (refused["state"], refused["decided"]) == ("failed", False)
        assert "--train-command: missing" in refused["says"] and refused["trials"] == 0
        assert "do what `says` asks for" in refused["next"]
    (kit.root / "fit.py").write_text(REACH.replace("OUTSIDE", str(outside)))
    with agent(kit, "--train-command", "python fit.py", "--metric", "val loss") as client:
        again = client.call("compare", settings={"lr": 0.2})
        assert (again["id"], again["alpha"]) == (asked["id"], asked["alpha"])
        reaches = client.call("compare")
        value = client.answered(again["id"])
        assert (value["answer"], value["containment"]) == ("better", "full")
        assert value["says"].startswith("better: val loss ")
        # The folder is not there for it: it fails, and is no better for what it would have seen.
        value = client.answered(reaches["id"])
        assert value["state"] == "failed" and "No such file or directory" in value["says"], value
        # Failed again it would be: nothing of it runs once more.
        assert client.call("compare")["state"] == "failed"
        # A comparison at a shell is none of an agent's questions.
        assert kit.autolab("compare", "--set", "lr=0.001", "--plain").code == 7
        assert client.call("compare", settings={"lr": 0.01})["question_on_this_base"] == 3
    for ledger in (kit.store / "compare").glob("*/ledger.jsonl"):
        lines = [json.loads(line) for line in ledger.read_text().split("\n") if line]
        levels = {line["data"]["trial"]["contained"]["level"] for line in lines if line["event"] == "trial"}
        settings = json.loads((ledger.parent / "question.json").read_text())["candidates"][0]["settings"]
        assert levels <= {"none" if settings == {"lr": 0.001} else "full"}
    assert sorted(path.name for path in kit.root.iterdir()) == [".git", "fit.py", "notes.md"]


@needs_full
def test_a_lab_has_its_own_configuration_and_tells_what_it_has_learned(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS), counter_name="/dev/null")
    assert kit.autolab("loop", "--max-iterations", "1", "--plain").code == 0
    with agent(kit) as client:
        assert "1 idea was tried" in client.call("lessons")["lessons"]
        assert client.call("status")["lab"]["iterations"] == 1
        value = client.answered(client.call("compare", settings={"width": 4.0})["id"])
        assert value["says"].startswith("better: val_loss "), value
        # What an agent has measured so, it hands to the loop, which measures it again.
        proposed = client.call("propose", title="A steeper slope: the score is 0.99", settings={"width": 4.0})
        assert client.call("propose", title="The same", settings={"width": 4.0})["id"] == proposed["id"]
        (told,) = client.call("status")["lab"]["proposals"]
        assert (told["id"], told["status"], told["verdict"]) == (proposed["id"], "waiting", "")
    refused = kit.autolab("mcp", "--metric", "val_loss")
    assert refused.code == 2 and ".autolab/config.yaml has command, metric and data" in refused.err


def test_the_server_is_refused_outside_of_a_repository(tmp_path: Path) -> None:
    ended = LabKit(tmp_path, tmp_path / "count.txt").autolab("mcp")
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "not in a git repository" in ended.err
