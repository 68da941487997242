import pytest

from tests.benchmarks.script import Script, client_number, learn

A, B = client_number(1), client_number(2)


def script(first: list[list[str]], second: list[list[str]]) -> Script:
    return learn(["hello"] * len(first), {A: first, B: second})


def test_replies_that_are_alike_must_be_exactly_so() -> None:
    expected = script([["Welcome"]], [["Welcome"]]).replies[0][0]
    assert expected.matches("Welcome", A)
    assert not expected.matches("Welcome!", A)


def test_a_persons_own_number_is_expected_in_their_replies_only() -> None:
    expected = script([[f"To {A}"]], [[f"To {B}"]]).replies[0][0]
    third = client_number(3)
    assert expected.matches(f"To {third}", third)
    assert not expected.matches(f"To {A}", third)


def test_what_differs_between_two_people_may_be_anything() -> None:
    expected = script([["Order 17 is made"]], [["Order 23 is made"]]).replies[0][0]
    assert expected.matches("Order 99 is made", A)
    assert not expected.matches("Order 99 is lost", A)


def test_people_who_are_told_different_numbers_of_things_make_no_script() -> None:
    with pytest.raises(ValueError, match="different things"):
        script([["one"]], [["one", "two"]])
    with pytest.raises(ValueError, match="different things"):
        script([[]], [[]])


def test_a_hook_is_what_the_provider_sends() -> None:
    import msgspec

    hook = msgspec.json.decode(Script(["Улица {client}"], []).hook(0, A, 7))
    assert hook["text"] == f"Улица {A}"
    assert (hook["message_id"], hook["client_id"], hook["hook_type"], hook["type"]) == (7, A, "inbox", "from_client")
