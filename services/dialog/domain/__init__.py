"""What dialog talks about. Pure: no input or output."""
