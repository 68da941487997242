"""CTX-2: the level in memory."""

from services.context.usecases.memory import FLOORS, Memory


class Now:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_the_entry_read_longest_ago_goes_first() -> None:
    memory = Memory[str](2, 60)
    memory.put("a", 1, "A", memory.mark())
    memory.put("b", 1, "B", memory.mark())
    assert memory.get("a") == (1, "A")
    memory.put("c", 1, "C", memory.mark())
    assert memory.get("b") is None
    assert memory.get("a") == (1, "A")
    assert len(memory) == 2


def test_an_entry_goes_at_its_age_limit() -> None:
    now = Now()
    memory = Memory[str](2, 60, now)
    memory.put("a", 1, "A", memory.mark())
    now.seconds = 61
    assert memory.get("a") is None


def test_an_older_version_never_replaces_a_newer_one() -> None:
    memory = Memory[str](2, 60)
    memory.put("a", 2, "new", memory.mark())
    memory.put("a", 1, "old", memory.mark())
    assert memory.get("a") == (2, "new")


def test_only_versions_below_the_named_one_are_dropped() -> None:
    memory = Memory[str](2, 60)
    memory.put("a", 2, "A", memory.mark())
    memory.drop("a", below=2)
    assert memory.get("a") == (2, "A")
    memory.drop("a", below=3)
    assert memory.get("a") is None


def test_what_was_read_before_its_drop_is_not_put_after_it() -> None:
    memory = Memory[str](2, 60)
    before = memory.mark()
    memory.drop("a", below=2)
    memory.put("a", 1, "old", before)
    assert memory.get("a") is None
    memory.put("a", 2, "new", before)
    assert memory.get("a") == (2, "new")


def test_of_many_drops_the_highest_counts_in_whatever_order_they_come() -> None:
    memory = Memory[str](2, 60)
    before = memory.mark()
    memory.drop("a", below=3)
    memory.drop("a", below=2)
    memory.put("a", 2, "old", before)
    assert memory.get("a") is None


def test_a_drop_of_every_version_holds_for_reads_begun_before_it_only() -> None:
    memory = Memory[str](2, 60)
    before = memory.mark()
    memory.drop("a")
    memory.put("a", 1, "A", before)
    assert memory.get("a") is None
    memory.put("a", 1, "A", memory.mark())
    assert memory.get("a") == (1, "A")


def test_what_was_read_before_everything_was_forgotten_is_not_put_after_it() -> None:
    memory = Memory[str](2, 60)
    before = memory.mark()
    memory.clear()
    memory.put("a", 1, "old", before)
    assert memory.get("a") is None
    memory.put("a", 1, "A", memory.mark())
    assert memory.get("a") == (1, "A")


def test_drops_are_remembered_in_bounded_memory_and_a_read_older_than_that_is_not_put() -> None:
    memory = Memory[str](2, 60)
    before = memory.mark()
    memory.drop("a", below=2)
    after = memory.mark()
    for number in range(FLOORS):
        memory.drop(number, below=2)
    assert len(memory._floors) == FLOORS
    memory.put("a", 1, "old", before)
    assert memory.get("a") is None
    memory.put("b", 1, "B", after)
    assert memory.get("b") == (1, "B")


def test_a_put_that_is_refused_leaves_nothing_older_behind() -> None:
    memory = Memory[str](2, 60)
    memory.put("a", 1, "old", memory.mark())
    before = memory.mark()
    for number in range(FLOORS + 1):
        memory.drop(number, below=2)
    memory.put("a", 2, "new", before)
    assert memory.get("a") is None
