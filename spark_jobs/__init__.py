"""The streaming jobs: Spark moves the bytes, `fraud.scoring` decides."""
