"""From archived topics to profile changes: pure, so that the archive job only reads, writes and waits."""
