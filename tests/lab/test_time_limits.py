"""How long a training may take: what the user sets, else ten times the calibration's slowest, else an hour."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autolab.cli import status
from autolab.errors import RecordError
from autolab.lab import time_limits
from autolab.lab.schemas.config import TimeLimit, Train
from autolab.lab.time_limits import Limit

TRAIN = Train(command="true")


@pytest.mark.parametrize(
    ("slowest_s", "seconds"), [(None, 3600.0), (0.2, 60.0), (6.0, 60.0), (8.0, 80.0), (8.01, 81.0), (400.0, 4000.0)]
)
def test_a_limit_follows_from_the_calibrations_slowest_trial(slowest_s: float | None, seconds: float) -> None:
    source = "default" if slowest_s is None else "calibration"
    assert TRAIN.time_limit(slowest_s).value() == {"seconds": seconds, "source": source}


@pytest.mark.parametrize("slowest_s", [None, 0.2, 400.0])
def test_a_set_limit_wins(slowest_s: float | None) -> None:
    train = Train(command="true", time_limit_s=7.5)
    assert train.time_limit(slowest_s) == TimeLimit(seconds=7.5, source="config")


def test_a_limit_is_said_with_where_it_is_from_and_what_sets_another() -> None:
    said = time_limits.sentence(80.0, "calibration")
    assert said == "a trial may take 80 s: ten times the slowest of the calibration; train.time_limit_s sets another"
    assert time_limits.origin(80.0, "calibration") == "10 times the calibration's slowest; train.time_limit_s"
    assert "more than ten times the slowest" in time_limits.sentence(60.0, "calibration")
    for source in ("config", "default", "calibration"):
        assert time_limits.KEY in time_limits.sentence(60.0, source) and time_limits.KEY in time_limits.origin(
            60, source
        )


def test_status_shows_the_runs_limit_or_the_one_that_follows_from_a_calibration_since(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    default = Limit(seconds=3600.0, source="default")
    assert status.time_limit(None, path) is None
    assert status.time_limit(default, path) == default
    path.write_text(json.dumps({"slowest_seconds": 8.0}))
    assert status.time_limit(default, path) == {"seconds": 80.0, "source": "calibration"}
    given = Limit(seconds=5.0, source="config")
    assert status.time_limit(given, path) == given
    assert status.time_limit(None, path) == {"seconds": 80.0, "source": "calibration"}
    path.write_text("{")
    with pytest.raises(RecordError, match="doctor --fix"):
        status.time_limit(None, path)
