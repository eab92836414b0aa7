"""From archived topics to profile changes: pure, so that the archive job only reads, writes and waits.

`records` decodes a batch, `clock` weighs it (what is accepted, which label counts, from when on), `changes` gives what
it changes as the lake and as the online store take it.
"""
