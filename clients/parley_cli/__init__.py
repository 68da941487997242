"""The `parley` command: the local stack, and what goes on in it."""

__version__ = "0.1.0"
