"""Brings identities into the one form in which they are stored and compared."""

import phonenumbers

from parley.common.v1 import identity_pb2

from services.kernel.errors import invalid_field


def normalised(identity: identity_pb2.Identity) -> identity_pb2.Identity | None:
    """Returns the identity as it is stored: phone numbers in E.164, others trimmed. None for an invalid number."""
    text = identity.value.strip()
    if identity.kind != identity_pb2.IDENTITY_KIND_PHONE:
        return identity_pb2.Identity(kind=identity.kind, value=text)
    try:
        number = phonenumbers.parse(text if text.startswith("+") else f"+{text}")
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return identity_pb2.Identity(
        kind=identity.kind, value=phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    )


def all_of(sender: identity_pb2.Sender) -> list[identity_pb2.Identity]:
    """Returns the sender's identities: first the one that the provider vouches for, then all others that are valid.

    Raises INVALID_FIELD if the first is an invalid phone number.
    """
    first = normalised(sender.identity)
    if first is None:
        example = "is not a phone number in international form, such as +996555123456"
        raise invalid_field("sender.identity.value", example)
    return [first, *(other for other in map(normalised, sender.also_known_as) if other is not None)]
