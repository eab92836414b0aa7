"""The command `demo`: the whole platform, once."""
