"""The demo: the whole platform once, from an empty folder to a report, on one machine."""
