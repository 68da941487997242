"""Rules between the contract and the domain, with the checks that the contract's own rules cannot make."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from parley.limits.v1 import limits_pb2 as pb

from services.kernel.errors import FieldViolation, Kind, ParleyError, invalid_field
from services.limits.domain.algorithms.base import Algorithm
from services.limits.domain.algorithms.calendar_quota import Budget, CalendarQuota
from services.limits.domain.algorithms.registry import ALGORITHMS
from services.limits.domain.periods import Period, UnknownZone, zone
from services.limits.domain.rules import UNKNOWN_ZONE, FailureMode, Override, Rule, Scope, Selector

DAILY = "daily_quota"
"""How the contract names a calendar quota whose period is a day."""
KINDS = ALGORITHMS | {DAILY: CalendarQuota}
CHANGEABLE = ("resource", "scope", "failure_mode", "shadow", *sorted(KINDS))
PROVIDERS = "provider."
LONGEST_RATE = 3_600_000
"""Milliseconds for which delivery holds the slots of its calls, which it never commits."""
NAMED_BY_DELIVERY = (Scope.TENANT, Scope.BOT, Scope.CHANNEL)
"""What delivery names as the subject of a provider's calls."""


def rule_from(message: pb.Rule) -> Rule:
    """Raises INVALID_FIELD."""
    return checked(
        Rule(
            tenant_id=message.tenant_id,
            rule_id=message.rule_id,
            resource=message.resource,
            scope=Scope(message.scope),
            algorithm=_algorithm_from(message),
            failure_mode=FailureMode(message.failure_mode),
            shadow=message.shadow,
        )
    )


def changed(rule: Rule, message: pb.Rule, paths: Iterable[str]) -> Rule:
    """A rule with the fields of the mask taken from the message. Raises INVALID_UPDATE_MASK or INVALID_FIELD."""
    before = rule.algorithm
    for path in paths:
        match path.split("."):
            case ["resource"]:
                rule = replace(rule, resource=message.resource)
            case ["scope"]:
                rule = replace(rule, scope=Scope(message.scope))
            case ["failure_mode"]:
                rule = replace(rule, failure_mode=FailureMode(message.failure_mode))
            case ["shadow"]:
                rule = replace(rule, shadow=message.shadow)
            case [kind, *rest] if kind in KINDS:
                if message.WhichOneof("algorithm") != kind:
                    raise invalid_field(f"rule.{kind}", "is named by the update mask, but not set")
                rule = replace(rule, algorithm=_part(rule.algorithm, message, rest, path))
            case _:
                raise _invalid_mask(path)
    if _unit(before) != _unit(rule.algorithm):
        field = f"rule.{field_of(rule.algorithm)}"
        raise invalid_field(field, "counts in another unit than before; make a rule of another id for it")
    return checked(rule)


def checked(rule: Rule) -> Rule:
    """Raises INVALID_FIELD when the parts of a rule do not fit."""
    algorithm, field = rule.algorithm, f"rule.{field_of(rule.algorithm)}"
    if isinstance(algorithm, CalendarQuota):
        try:
            zone(algorithm.time_zone or UNKNOWN_ZONE)
        except UnknownZone:
            description = "is not the IANA name of a time zone, for example `Asia/Bishkek`"
            raise invalid_field(f"{field}.time_zone", description) from None
    elif rule.failure_mode is FailureMode.POSTGRES:
        raise invalid_field("rule.failure_mode", "is for calendar quotas and budgets only; take OPEN or CLOSED")
    if rule.resource.startswith(PROVIDERS):
        if not algorithm.is_rate:
            description = "is no rate: calls of a provider are counted by sliding windows and token buckets"
            raise invalid_field(field, description)
        if rule.scope not in NAMED_BY_DELIVERY:
            raise invalid_field("rule.scope", "calls of a provider are counted for a tenant, a bot or a channel")
        _check_rate(getattr(algorithm, algorithm.length), f"{field}.{algorithm.length}")
    return rule


def _check_rate(length: int, field: str) -> None:
    if length > LONGEST_RATE:
        raise invalid_field(field, "is longer than an hour, for which calls of a provider are counted")


def _unit(algorithm: Algorithm) -> str:
    return algorithm.unit if isinstance(algorithm, Budget) else ""


def rule_to(rule: Rule) -> pb.Rule:
    message = pb.Rule(
        tenant_id=rule.tenant_id,
        rule_id=rule.rule_id,
        resource=rule.resource,
        scope=int(rule.scope),  # type: ignore[arg-type]
        failure_mode=int(rule.failure_mode),  # type: ignore[arg-type]
        shadow=rule.shadow,
        overrides=[override_to(selector, override) for selector, override in sorted(rule.overrides.items())],
    )
    chosen: Message = getattr(message, field_of(rule.algorithm))
    chosen.SetInParent()
    for field in chosen.DESCRIPTOR.fields:
        value = getattr(rule.algorithm, field.name)
        if field.message_type is not None:
            getattr(chosen, field.name).CopyFrom(duration(value))
        else:
            setattr(chosen, field.name, value)
    if rule.updated_at is not None:
        message.updated_at.FromDatetime(rule.updated_at)
    return message


def field_of(algorithm: Algorithm) -> str:
    """The field of the contract's rule that holds the algorithm."""
    if type(algorithm) is CalendarQuota and algorithm.period == Period.DAY:
        return DAILY
    return algorithm.kind


def override_from(message: pb.Override, rule: Rule) -> Override:
    """Raises INVALID_FIELD when the rule's algorithm has no such limit or length."""
    algorithm = rule.algorithm
    if message.limit > algorithm.most:
        raise invalid_field("override.limit", f"is more than a rule of this kind can allow, {algorithm.most}")
    if not message.HasField("window"):
        return Override(message.limit)
    if not algorithm.length:
        raise invalid_field("override.window", "the rule is neither a sliding window nor a token bucket")
    length = message.window.ToMilliseconds()
    if rule.resource.startswith(PROVIDERS):
        _check_rate(length, "override.window")
    return Override(message.limit, length)


def override_to(selector: Selector, override: Override) -> pb.Override:
    chosen = pb.Selector(**{f"{selector.scope.name.lower()}_id": selector.id})
    window = None if override.length is None else duration(override.length)
    return pb.Override(selector=chosen, limit=override.limit, window=window)


def selector_from(message: pb.Selector) -> Selector:
    field = message.WhichOneof("selector")
    assert field is not None, "the contract requires one"
    return Selector(Scope[field.removesuffix("_id").upper()], getattr(message, field))


def duration(milliseconds: int) -> Duration:
    seconds, rest = divmod(max(milliseconds, 0), 1000)
    return Duration(seconds=seconds, nanos=rest * 1_000_000)


def _algorithm_from(message: pb.Rule) -> Algorithm:
    kind = message.WhichOneof("algorithm")
    assert kind is not None, "the contract requires one"
    given: Message = getattr(message, kind)
    parameters = {field.name: _plain(getattr(given, field.name)) for field in given.DESCRIPTOR.fields}
    return msgspec.convert(parameters, KINDS[kind])


def _plain(value: Any) -> Any:
    return value.ToMilliseconds() if isinstance(value, Duration) else value


def _part(before: Algorithm, message: pb.Rule, rest: list[str], path: str) -> Algorithm:
    """The whole algorithm of the message, or one field of it when the rule has that kind already."""
    given = _algorithm_from(message)
    if not rest:
        return given
    [name, *more] = rest
    fields = getattr(message, path.split(".")[0]).DESCRIPTOR.fields_by_name
    if more or name not in fields:
        raise _invalid_mask(path)
    if type(before) is not type(given):
        raise invalid_field(f"rule.{path}", "changes the kind of the rule; name the whole of it in the mask")
    changes: dict[str, Any] = {name: getattr(given, name)}
    return replace(before, **changes)


def _invalid_mask(path: str) -> ParleyError:
    description = f"{path!r} is not one of {', '.join(CHANGEABLE)}"
    return ParleyError(
        Kind.INVALID,
        "INVALID_UPDATE_MASK",
        f"update_mask: {description}.",
        (FieldViolation("update_mask", description),),
        {"field": "update_mask"},
    )
