"""A chat model as researcher."""
