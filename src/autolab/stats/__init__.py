"""Plans, rules, verdicts. Pure functions of numbers."""
