"""Who thinks: the protocol, the built-in researcher, chat models, coding agents, scripted answers."""
