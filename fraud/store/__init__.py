"""The online store: one protocol (`fraud.store.base`), three implementations; `open_store` chooses by URL."""
