"""The command `score`: the streaming job."""
