"""The command `train`: from tables to a registered model version."""
