"""The online store, made again from the lake and the tails of the topics."""
