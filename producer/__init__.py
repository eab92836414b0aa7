"""The simulator (seeded, pure), the Handbook's data as our tables, and the publisher."""
