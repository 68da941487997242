"""CTX-2: the level in memory."""

from services.context.memory import Memory


class Now:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_the_entry_read_longest_ago_goes_first() -> None:
    memory = Memory[str](2, 60)
    memory.put("a", 1, "A")
    memory.put("b", 1, "B")
    assert memory.get("a") == (1, "A")
    memory.put("c", 1, "C")
    assert memory.get("b") is None
    assert memory.get("a") == (1, "A")
    assert len(memory) == 2


def test_an_entry_goes_at_its_age_limit() -> None:
    now = Now()
    memory = Memory[str](2, 60, now)
    memory.put("a", 1, "A")
    now.seconds = 61
    assert memory.get("a") is None


def test_an_older_version_never_replaces_a_newer_one() -> None:
    memory = Memory[str](2, 60)
    memory.put("a", 2, "new")
    memory.put("a", 1, "old")
    assert memory.get("a") == (2, "new")


def test_only_versions_below_the_named_one_are_dropped() -> None:
    memory = Memory[str](2, 60)
    memory.put("a", 2, "A")
    memory.drop("a", below=2)
    assert memory.get("a") == (2, "A")
    memory.drop("a", below=3)
    assert memory.get("a") is None
