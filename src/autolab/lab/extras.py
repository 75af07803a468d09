"""The optional packages of Autolab: how to install those that a command needs."""

from __future__ import annotations

import re
import shlex
import sys
from importlib import metadata


def install_command(extra: str) -> str:
    """The command line that installs the packages of an extra beside Autolab.

    It names the packages and not `autolab[...]`: the package of that name on PyPI is another program.
    """
    packages = []
    for requirement in metadata.requires("autolab") or ():
        package, _, condition = requirement.partition(";")
        if re.search(rf"\bextra\s*==\s*['\"]{re.escape(extra)}['\"]", condition):
            packages.append(package.strip())
    return shlex.join([sys.executable, "-m", "pip", "install", *packages])
