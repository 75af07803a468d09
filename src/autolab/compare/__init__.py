"""Is a change a real gain? Two or more versions of a training, over paired seeds, until the answer is known."""
