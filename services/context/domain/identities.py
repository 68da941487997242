"""Identities in the one form in which they are compared."""

import phonenumbers

from parley.common.v1 import identity_pb2

from services.kernel.errors import invalid_field


def normalised(identity: identity_pb2.Identity) -> identity_pb2.Identity | None:
    """The identity as stored: a phone in E.164, anything else trimmed. None for a phone that cannot be one."""
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
    """The sender's identities, the one that the provider vouches for first; a further one that is none is left out.

    Raises ParleyError INVALID_FIELD when the first is a phone that cannot be one.
    """
    first = normalised(sender.identity)
    if first is None:
        example = "is not a phone number in international form, such as +996555123456"
        raise invalid_field("sender.identity.value", example)
    return [first, *(other for other in map(normalised, sender.also_known_as) if other is not None)]
