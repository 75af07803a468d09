"""What the built-in researcher could change in an adopted repository, said before anything is measured."""

from __future__ import annotations

from autolab.adoption.repository import Repository
from autolab.errors import ResearcherError
from autolab.lab.schemas.config import Config
from autolab.researchers.offline.bench import find_bench

SHOWN = 8
"""Settings that the line names at most."""


def search_space(repository: Repository, config: Config) -> str:
    """One line: the settings that the built-in researcher knows here, or what else can look for ideas."""
    if config.researcher.name != "offline":
        return ""
    try:
        bench = find_bench(lambda path: repository.git.text(repository.head, path), config, None)
    except ResearcherError:
        return (
            "the built-in researcher finds no setting that it knows in the files that"
            f" `{config.train.command}` reaches; a model or a coding agent reads the code and changes it: autolab loop"
            " --model openai:NAME, or --researcher claude"
        )
    # A change is named `SETTING up` or `SETTING down`.
    settings = list(dict.fromkeys(mechanism.change.rpartition(" ")[0] for mechanism in bench.mechanisms))
    names = ", ".join(settings[:SHOWN])
    if len(settings) > SHOWN:
        names += f" and {len(settings) - SHOWN} more"
    return f"the built-in researcher can change {names}; a model or a coding agent can change all of the code"
