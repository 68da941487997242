"""EDGE-3: secrets of webhooks."""

from services.edge.providers.proofs import secret_matches


def test_the_right_secret_matches_wherever_it_is_shown() -> None:
    assert secret_matches("s3cret-s3cret", None, "s3cret-s3cret")
    assert secret_matches("s3cret-s3cret", "s3cret-s3cret", "wrong")


def test_a_wrong_or_missing_secret_does_not_match() -> None:
    assert not secret_matches("s3cret-s3cret")
    assert not secret_matches("s3cret-s3cret", "")
    assert not secret_matches("s3cret-s3cret", "s3cret-s3cre")
    assert not secret_matches("s3cret-s3cret", "s3cret\u00e9")


def test_a_channel_without_a_secret_lets_nobody_in() -> None:
    assert not secret_matches("", "")
    assert not secret_matches("", "anything")
