"""Requests as they were once written: their JSON and wire forms must be read the same for ever.

A file pair a request: `<name>.json` and `<name>.binpb`. To add one, write the JSON with `@type` naming the message, and
run `python -m tests.contract.test_golden`, which writes the wire forms that are missing and changes none.
"""

import importlib
import json
from pathlib import Path

import pytest
from google.protobuf import json_format, symbol_database
from google.protobuf.message import Message

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json"))


def from_json(name: str) -> Message:
    written = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    message = message_type(written.pop("@type"))()
    return json_format.ParseDict(written, message)


def message_type(full_name: str) -> type[Message]:
    package = full_name.rpartition(".")[0]
    for path in (Path(__file__).parents[2] / "gen" / Path(*package.split("."))).glob("*_pb2.py"):
        importlib.import_module(f"{package}.{path.stem}")
    return symbol_database.Default().GetSymbol(full_name)


@pytest.mark.parametrize("name", NAMES)
def test_json_and_wire_form_are_the_same_request(name: str) -> None:
    message = from_json(name)
    assert type(message).FromString((GOLDEN / f"{name}.binpb").read_bytes()) == message


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_wire_form_is_unknown(name: str) -> None:
    """A field that is renumbered or gone would be kept as an unknown one, and equality would not show it."""
    message = type(from_json(name)).FromString((GOLDEN / f"{name}.binpb").read_bytes())
    size = message.ByteSize()
    message.DiscardUnknownFields()
    assert message.ByteSize() == size


@pytest.mark.parametrize("name", NAMES)
def test_a_request_is_written_to_json_as_it_was(name: str) -> None:
    written = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    del written["@type"]
    assert json_format.MessageToDict(from_json(name)) == written


if __name__ == "__main__":
    for missing in NAMES:
        target = GOLDEN / f"{missing}.binpb"
        if not target.exists():
            target.write_bytes(from_json(missing).SerializeToString(deterministic=True))
