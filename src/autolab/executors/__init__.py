"""Where trials run: the protocol, this machine, and the supervisor that outlives the engine."""
