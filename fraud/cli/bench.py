"""The commands `bench …`: measure, and say on which machine."""
