"""From a method to the code of a lab: a model, a recipe, and the `method.json` that says what they are.

Pure: equal records give equal bytes, nothing is run, read or written. The sources need torch, this package does not.
"""

from __future__ import annotations

from autolab.researchers.assembler.assemble import assemble, method_source
from autolab.researchers.assembler.model_source import model_source, parameters, shapes
from autolab.researchers.assembler.recipe_source import recipe_source
from autolab.researchers.assembler.source import Source

__all__ = ["Source", "assemble", "method_source", "model_source", "parameters", "recipe_source", "shapes"]
