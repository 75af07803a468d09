"""Programs that stand in for coding agents, and how a lab is told to ask them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from lab_kit import LabKit

AGENTS = Path(__file__).parent / "agents"
FAKE = f"{AGENTS / 'fake_agent'} {{prompt_file}}"
KEY = "sk-proj-" + "k3Y9" * 10


def configure(kit: LabKit, **parts: Any) -> None:
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | parts, sort_keys=False))
