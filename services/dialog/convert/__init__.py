"""What other services and callers say, as the domain has it, and back."""
