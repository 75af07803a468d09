"""The places in a program's code that a trial's seed is written to, in the trial's own copy: `train.seed_constants`.

A place is `FILE: TEXT`. TEXT is a part of a line, `{seed}` in it standing for an integer, such as
`train.py: torch.manual_seed({seed}`. Every line of the file that reads so gets the seed, but none in a comment (#, //).
`sed` writes it, which every trial has; `matching_lines` says beforehand which lines it will be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from autolab.lab.schemas.config import SEED

MESSAGE = (
    "{file}: no line reads `{text}` with an integer for {{seed}}, so the trial's seed has no place there"
    " (train.seed_constants in .autolab/config.yaml): put the line back"
)
# Each pattern twice: as Python has it, and as a basic regular expression, the only kind that every sed knows.
# 7, 1_000, 0x2A, 42UL; what follows is no part of a number or a name: 4.2 and 1e5 are no seeds.
_INTEGER = "[0-9][0-9A-Fa-fxX_]*[uUlL]*"
_REST, _SED_REST = r"((?:[^0-9A-Za-z_.].*)?)", r"\([^0-9A-Za-z_.].*\)\{0,1\}"
# Else `seed = 1` would be found in `data_seed = 1`, and `random.seed(1` in `np.random.seed(1`.
_START, _SED_START = r"(?:[^#]*[^#0-9A-Za-z_.])?", r"\([^#]*[^#0-9A-Za-z_.]\)\{0,1\}"
_SED_NO_COMMENT = r"/^[[:space:]]*\/\//!"


@dataclass(frozen=True)
class SeedConstant:
    """One entry of `train.seed_constants`: a file of the code, by its path in the repository, and a part of a line."""

    file: str
    text: str

    @classmethod
    def of(cls, entry: str) -> SeedConstant:
        """Read `FILE: TEXT`, whose form the configuration has checked."""
        file, _, text = entry.partition(": ")
        return cls(file, text)

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"

    def matching_lines(self, code: str) -> list[int]:
        """The numbers, from 1, of the lines of `code` that get the seed."""
        before, after = self.text.split(SEED)
        rest = f"({re.escape(after)}.*)" if after else _REST
        pattern = re.compile(f"({_START}{re.escape(before)}){_INTEGER}{rest}", re.ASCII | re.DOTALL)
        numbers = []
        for number, line in enumerate(code.split("\n"), start=1):
            if pattern.fullmatch(line) and not line.lstrip().startswith("//"):
                numbers.append(number)
        return numbers

    def shell_words(self, seed: int) -> list[str]:
        """For the copying script: the file, sed's commands that find and that write the lines, and what to say if there
        is none."""
        before, after = map(_literal, self.text.split(SEED))
        rest = rf"\({after}.*\)" if after else _SED_REST
        pattern = rf"^\({_SED_START}{before}\){_INTEGER}{rest}$"
        message = MESSAGE.format(file=self.file, text=self.text)
        find = f"{_SED_NO_COMMENT}{{/{pattern}/=;}}"
        write = rf"{_SED_NO_COMMENT}s/{pattern}/\1{seed}\3/"
        return [self.file, find, write, message]


def _literal(text: str) -> str:
    """`text` as a basic regular expression that matches it alone."""
    return re.sub(r"([\\.\[\]*^$/])", r"\\\1", text)
