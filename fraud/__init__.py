"""Real-time payment fraud detection: one feature definition for batch, stream and API."""

__version__ = "0.1.0"
