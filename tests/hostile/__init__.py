"""Hostile programs, what they may reach, and the tests that run them with and without containment."""
