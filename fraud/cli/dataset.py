"""`dataset`: the training set as it was known at a moment."""
