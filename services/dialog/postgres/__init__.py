"""Dialog's stores in PostgreSQL."""
