"""Which version of Parley runs."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of


def version() -> str:
    """The version of the installed package; that of the tree when it runs from there."""
    try:
        return version_of("parley")
    except PackageNotFoundError:
        return "0.1.0"
