"""Commands about the embedded servers: up, down, status, doctor."""
