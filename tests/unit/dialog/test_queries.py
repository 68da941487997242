"""Statements whose sets of rows have named columns."""

import pytest

from services.dialog.postgres.queries import Query

SQL = "SELECT $1, $2 FROM rows orders (turn_id uuid, place int) JOIN rows ends (turn_id uuid) USING (turn_id)"


def test_sets_of_rows_become_arrays_behind_the_numbered_parameters() -> None:
    assert Query(SQL).sql == (
        "SELECT $1, $2 FROM unnest($3::uuid[], $4::int[]) AS orders (turn_id, place)"
        " JOIN unnest($5::uuid[]) AS ends (turn_id) USING (turn_id)"
    )


def test_columns_are_found_by_their_names() -> None:
    orders = [{"place": 7, "turn_id": "a", "note": "first"}, {"place": 8, "turn_id": "b"}]
    assert Query(SQL).arguments("x", "y", ends=[], orders=orders) == ["x", "y", ["a", "b"], [7, 8], []]


def test_a_set_that_is_missing_and_a_column_that_no_row_has_are_told() -> None:
    with pytest.raises(AssertionError):
        Query(SQL).arguments("x", "y", ends=[])
    with pytest.raises(KeyError, match="place"):
        Query(SQL).arguments("x", "y", ends=[], orders=[{"turn_id": "a"}])
