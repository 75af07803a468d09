"""The loop: its table of stages, one file a stage, the engine that walks it."""
