"""Checks requests against the rules in the contracts."""

from collections.abc import Sequence

from google.protobuf.message import Message

from services.kernel.errors import FieldViolation, Kind, ParleyError
from services.runtime.field_bounds import too_much


def warm() -> None:
    """Load the rules' engine, which takes a tenth of a second, so that the first request need not wait for it."""
    import protovalidate  # noqa: F401


MOST_TOLD = 20
"""Violations that are told one by one."""


def check(request: Message) -> ParleyError | None:
    """The first fields that break their rules, as INVALID_FIELD; None when the request is good. What repeats too often
    is not looked at item by item."""
    much = too_much(request)
    if much is not None:
        return _invalid([much])
    import protovalidate  # here, because processes that serve nothing can do without its 15 MB

    violations = protovalidate.collect_violations(request)
    if not violations:
        return None
    fields = [
        FieldViolation(_path(each.proto.field), each.proto.message or each.proto.rule_id or "is not valid")
        for each in violations[:MOST_TOLD]
    ]
    if len(violations) > MOST_TOLD:
        fields.append(FieldViolation(fields[-1].field, f"and {len(violations) - MOST_TOLD} more violations"))
    return _invalid(fields)


def _invalid(fields: Sequence[FieldViolation]) -> ParleyError:
    message = "; ".join(f"{each.field}: {each.description}" for each in fields)
    return ParleyError(Kind.INVALID, "INVALID_FIELD", message, tuple(fields), {"field": fields[0].field})


def _path(field: object) -> str:
    """A field path as people write it, for example `sender.also_known_as[1].value`."""
    path = ""
    for element in getattr(field, "elements", ()):
        path += f".{element.field_name}" if path else element.field_name
        subscript = getattr(element.subscript, "value", None)
        if subscript is not None:
            path += f"[{subscript!r}]"
    return path
