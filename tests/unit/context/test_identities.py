"""CTX-9: identities in one form."""

import pytest

from parley.common.v1 import identity_pb2

from services.context.domain import identities
from services.kernel.errors import ParleyError

PHONE = identity_pb2.IDENTITY_KIND_PHONE
CHAT2DESK = identity_pb2.IDENTITY_KIND_CHAT2DESK


def identity(kind: "identity_pb2.IdentityKind.ValueType", value: str) -> identity_pb2.Identity:
    return identity_pb2.Identity(kind=kind, value=value)


@pytest.mark.parametrize("written", ["+996555123456", "996555123456", "996 555 12-34-56", " +996 (555) 123456 "])
def test_a_phone_has_one_form_however_it_is_written(written: str) -> None:
    assert identities.all_of(identity_pb2.Sender(identity=identity(PHONE, written)))[0].value == "+996555123456"


def test_a_sender_without_a_phone_is_complete() -> None:
    found = identities.all_of(identity_pb2.Sender(identity=identity(CHAT2DESK, " 551 ")))
    assert [(one.kind, one.value) for one in found] == [(CHAT2DESK, "551")]


def test_a_further_phone_that_is_none_is_left_out() -> None:
    sender = identity_pb2.Sender(identity=identity(CHAT2DESK, "551"), also_known_as=[identity(PHONE, "12")])
    assert len(identities.all_of(sender)) == 1


def test_a_vouched_phone_that_is_none_is_an_error_that_names_the_field() -> None:
    with pytest.raises(ParleyError) as caught:
        identities.all_of(identity_pb2.Sender(identity=identity(PHONE, "12")))
    assert caught.value.fields[0].field == "sender.identity.value"
