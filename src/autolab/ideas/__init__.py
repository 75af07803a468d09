"""What was tried, what it taught, what is not tried again."""
