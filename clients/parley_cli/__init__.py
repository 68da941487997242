"""The `parley` command: runs the local stack and shows what happens in it."""

__version__ = "0.1.0"
