"""The training set of (T, cut): what was known at T, rebuilt byte for byte whenever it is asked for."""
