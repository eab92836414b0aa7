"""`archive`: the job that keeps the topics in the lake and merchant profiles up to date."""
