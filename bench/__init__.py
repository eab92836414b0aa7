"""What measurements compare this platform with; no part of the package that is installed."""
