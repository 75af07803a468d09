"""Checks of what a researcher did. Findings are values."""
