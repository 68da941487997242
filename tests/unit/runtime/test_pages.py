"""Page tokens lead to the next page of the same list, and to nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kernel.errors import ParleyError
from services.runtime import pages


@given(st.lists(st.one_of(st.text(), st.integers(), st.none()), max_size=4))
def test_a_token_gives_its_position_back(position: list[str | int | None]) -> None:
    token = pages.encode("ListOrders", ("acme", 3), position)
    assert pages.decode(token, "ListOrders", ("acme", 3)) == position


def test_no_token_is_the_first_page() -> None:
    assert pages.decode("", "ListOrders", ()) is None


@pytest.mark.parametrize("token", ["x", "%%%", "bnVsbA", "W10", "Wzdd", "e30", "a" * 511])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(ParleyError) as caught:
        pages.decode(token, "ListOrders", ())
    assert caught.value.reason == "INVALID_PAGE_TOKEN"
    assert caught.value.fields[0].field == "page_token"


@pytest.mark.parametrize(("method", "filters"), [("ListBots", ("acme",)), ("ListOrders", ("other",))])
def test_a_token_of_another_list_is_refused(method: str, filters: tuple[str, ...]) -> None:
    token = pages.encode("ListOrders", ("acme",), ["x"])
    with pytest.raises(ParleyError) as caught:
        pages.decode(token, method, filters)
    assert caught.value.reason == "INVALID_PAGE_TOKEN"
