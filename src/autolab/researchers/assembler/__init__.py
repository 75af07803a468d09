"""From a method to the code of a lab: a model, a recipe, and the `method.json` that describes them.

Pure: equal records give equal bytes; nothing is run, read or written. The code needs torch, this package does not.
"""

from __future__ import annotations

from autolab.researchers.assembler.model_source import model_source, parameters, shapes
from autolab.researchers.assembler.recipe_source import recipe_source
from autolab.researchers.assembler.source import Source
from autolab.researchers.assembler.written_method import method_source

__all__ = ["Source", "method_source", "model_source", "parameters", "recipe_source", "shapes"]
