"""Proofs that a webhook comes from its provider. All of them fail closed, and compare in constant time."""

import hashlib
import hmac


def secret_matches(expected: str, *shown: str | None) -> bool:
    """Whether one of the shown secrets is the expected one. A channel without a secret matches nothing."""
    if not expected:
        return False
    wanted = expected.encode()
    matched = False
    for candidate in shown:
        if candidate is not None:
            matched |= hmac.compare_digest(wanted, candidate.encode("utf-8", "surrogateescape"))
    return matched


def signature_matches(secret: str, body: bytes, *shown: str | None) -> bool:
    """Whether one of the shown signatures is the body's HMAC-SHA256 in hex. Without a secret none is."""
    return bool(secret) and secret_matches(hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(), *shown)
