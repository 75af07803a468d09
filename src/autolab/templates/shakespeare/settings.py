"""The characters of the text, and how much of it a training sees."""

CHARACTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""Every character of the text; a token is an index into it."""
LENGTH = 64
"""Characters of a row."""
SEEN = 409_600
"""Characters that a training sees, however it cuts them into batches: what is held equal when two are compared."""
