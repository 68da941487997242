"""The water order at each of its questions."""

from tests.support.talk import Talk, form_talk

ADDRESS, PHONE, BOTTLES, CONFIRMATION = (
    "waiting_address",
    "waiting_phone",
    "waiting_bottles",
    "waiting_confirmation",
)
WAY = {ADDRESS: "привет", PHONE: "ул. Киевская 120", BOTTLES: "0700 123 456", CONFIRMATION: "3"}
STEPS = [*WAY]
FILLED = {"address": "ул. Киевская 120", "phone": "+996700123456", "bottles": 3}


async def at(step: str) -> Talk:
    """A talk that has come to a step."""
    talk = form_talk()
    for reached, text in WAY.items():
        await talk.say(text)
        assert talk.step == reached
        if reached == step:
            break
    return talk


def filled_at(step: str) -> dict[str, object]:
    return dict(list(FILLED.items())[: STEPS.index(step)])
