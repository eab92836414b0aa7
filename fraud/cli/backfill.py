"""The command `backfill`: load a past into the online store."""
