"""Every service's migrations can be read: numbered from 0001 without gaps, and no number twice."""

from pathlib import Path

import pytest

from services.runtime.migrations import read_migrations

FOLDERS = sorted((Path(__file__).parents[2] / "services").glob("*/migrations"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_migrations_are_numbered_without_gaps(folder: Path) -> None:
    assert read_migrations(folder)
