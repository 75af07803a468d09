import ast
from pathlib import Path
from typing import Any


def setting(file: str, name: str, value: Any = None) -> Any:
    """A constant or a flag's default as the code beside this file has it, so that a candidate may change it there.

    `value` is what the training command gives; a line `args.name = 3` of the code comes after it.
    """
    default = None
    for node in ast.walk(ast.parse((Path(__file__).resolve().parent / file).read_text())):
        try:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).split(".")[-1] == name:
                value = ast.literal_eval(node.value)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("add_argument"):
                flags = [ast.unparse(flag).strip("'\"-").replace("-", "_") for flag in node.args]
                if name in flags:
                    default = ast.literal_eval({each.arg: each.value for each in node.keywords}["default"])
        except (ValueError, KeyError):
            continue  # it is computed, or has no default
    return default if value is None else value
