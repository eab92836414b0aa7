"""The command `parity`: the stream's features against the offline builder's."""
