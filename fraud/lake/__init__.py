"""The lake: what the topics said, kept for good in Delta tables on S3."""
