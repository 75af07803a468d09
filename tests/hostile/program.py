"""What a hostile program is, as data, and the lines that every one written in Python begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PRELUDE = """\
import ctypes, json, os, sys, time
F = json.load(open(sys.argv[1]))
open("began", "w").close()
libc = ctypes.CDLL(None, use_errno=True)

def loot(data):
    with open("loot", "ab") as file:
        file.write(data if isinstance(data, bytes) else str(data).encode(errors="surrogateescape"))

def held():
    with open("held", "w") as file:
        file.write("got it")

def call(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def number(x86, arm):
    return x86 if os.uname().machine == "x86_64" else arm

def sleeper():
    time.sleep(60)
    os._exit(0)

"""


@dataclass(frozen=True)
class Program:
    """One program that does harm in one way.

    `judges` name what must see harm where nothing contains it. `layers`: each of them, left out alone at level `full`
    (as "partial:landlock": at level `partial`; as "uid+mounts": with `uid`, which may hold it too, out as well), lets
    it bite. `partial`: level `partial` stops it. `box` overrides limits of its Box. `then` is what a careless harness
    does with what it left. `root`: only root can do this harm, or it is one only to root. `during` names what an
    accomplice outside does meanwhile. `race`: chance decides, so it runs several times. `place` names the lab that it
    is given (`reach.PLACES`), whose launch the engine may refuse."""

    name: str
    family: str
    harm: str
    code: str
    judges: tuple[str, ...]
    layers: tuple[str, ...] = ()
    partial: bool = True
    limit_s: float = 10.0
    box: Mapping[str, int] = field(default_factory=dict)
    then: tuple[str, ...] = ()
    during: str = ""
    root: bool = False
    race: bool = False
    shell: bool = False
    place: str = ""

    @property
    def text(self) -> str:
        return self.code if self.shell else PRELUDE + self.code
