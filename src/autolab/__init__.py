"""Autolab: from a goal in one sentence to measured, reproducible research."""

__version__ = "0.2.0"
