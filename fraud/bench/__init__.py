"""Measurements that a reader can repeat: one command per question, medians with ranges."""
