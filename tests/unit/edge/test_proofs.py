"""EDGE-3: secrets of webhooks."""

import hmac

from services.edge.providers.proofs import secret_matches, signature_matches


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


def test_a_signature_is_of_the_body_as_it_came_and_by_the_secret() -> None:
    signature = "88aab3ede8d3adf94d26ab90d3bafd4a2083070c3bcce9c014ee04a443847c0b"
    assert signature_matches("secret", b"hello", None, signature)
    for secret, body in (("other", b"hello"), ("secret", b"hello "), ("", b"hello")):
        assert not signature_matches(secret, body, signature)
    assert not signature_matches("", b"hello", hmac.new(b"", b"hello", "sha256").hexdigest())
    assert not signature_matches("secret", b"hello")
