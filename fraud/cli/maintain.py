"""`maintain`: compaction and retention of lake, runs and histories."""
