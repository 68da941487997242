"""What dialog can do. Each use case owns its transactions through a port."""
