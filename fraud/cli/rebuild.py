"""`rebuild`: the online store from the lake."""
