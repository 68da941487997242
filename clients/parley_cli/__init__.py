"""The `parley` command: the local stack, and what goes on in it."""
