"""Comparisons as tools for coding agents: what they ask is measured here, and what they say of a score is not read."""
