"""One bad item of a batch fails alone."""

from collections.abc import Sequence

import pytest

from services.runtime.halving import CALLS, send_in_halves


class Refused(Exception):
    pass


class Receiver:
    """Refuses the batches that hold a bad number; is away at the calls named."""

    def __init__(self, *bad: int, away: Sequence[int] = ()) -> None:
        self.bad, self.away = set(bad), set(away)
        self.taken: list[int] = []
        self.refused: list[int] = []
        self.calls = 0

    async def take(self, items: Sequence[int]) -> None:
        self.calls += 1
        if self.calls in self.away:
            raise ConnectionError("away")
        if self.bad & set(items):
            raise Refused
        self.taken += items

    def note(self, items: Sequence[int], error: Exception) -> None:
        self.refused += items


@pytest.mark.parametrize("bad", [(), (0,), (511,), (3, 200), (1, 2, 3)])
async def test_the_good_items_of_a_batch_arrive_in_order(bad: tuple[int, ...]) -> None:
    receiver = Receiver(*bad)
    await send_in_halves([range(512)], receiver.take, Refused, receiver.note)
    assert receiver.refused == list(bad)
    assert receiver.taken == [number for number in range(512) if number not in bad]


async def test_one_bad_item_costs_few_calls() -> None:
    receiver = Receiver(300)
    await send_in_halves([range(512)], receiver.take, Refused, receiver.note)
    assert receiver.calls == 19


async def test_a_receiver_that_refuses_everything_is_not_asked_for_ever() -> None:
    receiver = Receiver(*range(512))
    await send_in_halves([range(512)], receiver.take, Refused, receiver.note)
    assert receiver.refused == list(range(512))
    assert receiver.calls <= 2 * CALLS


async def test_what_was_not_sent_is_left_when_the_receiver_goes_away() -> None:
    receiver = Receiver(5, away=[4])
    parts: list[Sequence[int]] = [range(8)]
    with pytest.raises(ConnectionError):
        await send_in_halves(parts, receiver.take, Refused, receiver.note)
    assert receiver.taken + [number for part in parts for number in part] == list(range(8))
    receiver.bad.clear()
    await send_in_halves(parts, receiver.take, Refused, receiver.note)
    assert receiver.taken == list(range(8))
