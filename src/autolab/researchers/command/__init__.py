"""An external coding agent as researcher."""
