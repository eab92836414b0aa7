"""Commands about the registry: models, promote, rollback."""
