"""What a program's sources say that it wants next is told in the list of what its first run missed."""

from __future__ import annotations

import ast

import pytest

from autolab.adoption.probe_findings import ProbeFinding
from autolab.adoption.program_sources import SourceFile
from autolab.adoption.static_needs import later_needs

TERMINAL = ProbeFinding("it asks for the size of its terminal, and a trial has none", "give it one")


def needs(text: str, *missing: ProbeFinding, has_data: bool = False) -> list[str]:
    source = SourceFile("train.py", text, ast.parse(text))
    return [str(need) for need in later_needs([source], missing or [TERMINAL], has_data=has_data)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "CIFAR10('./data', train=True, download=True)",
            "it will download what is not there (train.py: download=True)",
        ),
        ("urllib.request.urlretrieve(URL, 'x')", "it will download what is not there (train.py: urlretrieve)"),
        ("GPT2.from_pretrained('gpt2')", "it will download what is not there (train.py: from_pretrained)"),
        ("net.cuda()", "it will want a GPU (train.py: .cuda())"),
        ("device = torch.device('cuda')", "it will want a GPU (train.py: torch.device('cuda)"),
        ("d = os.path.join(os.path.expanduser('~'), '.cache', 'own')", "it keeps files in ~/.cache/own (train.py)"),
        ("c = join(home, '.cache')\nd = join(c, 'own')", "it keeps files in ~/.cache/own (train.py)"),
    ],
)
def test_what_comes_next_is_told_with_its_line(text: str, told: str) -> None:
    (need,) = needs(text)
    assert need.startswith(told)


@pytest.mark.parametrize(
    "text",
    [
        "net.to('cuda' if torch.cuda.is_available() else 'cpu')",
        "if not args.no_cuda: net.cuda()",
        "model.from_pretrained(path)",
        "print('nothing')",
    ],
)
def test_what_a_program_can_do_without_is_not_told(text: str) -> None:
    assert needs(text) == []


def test_what_the_run_itself_missed_is_told_once_and_nothing_if_it_missed_nothing() -> None:
    network = ProbeFinding("it wants example.org, and a trial has no network", "fetch it")
    assert needs("CIFAR10('./data', download=True)", network) == []
    assert needs("CIFAR10('./data', download=True)", has_data=True) == []
    source = SourceFile("train.py", "net.cuda()", None)
    assert list(later_needs([source], [], has_data=False)) == []
