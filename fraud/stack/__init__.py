"""The embedded servers of one machine: Java, jars, Kafka, S3, MLflow, and what supervises them."""
