"""The command line: entry points parse, call and map errors; what they call lives elsewhere."""
