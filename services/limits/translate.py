"""Rules between the contract and the domain, with the checks that the contract's own rules cannot make."""

from collections.abc import Iterable
from dataclasses import replace

from google.protobuf.duration_pb2 import Duration

from parley.limits.v1 import limits_pb2 as pb

from services.kernel.errors import FieldViolation, Kind, ParleyError, invalid_field
from services.limits.days import UnknownZone, zone
from services.limits.domain import (
    UNKNOWN_ZONE,
    DailyQuota,
    FailureMode,
    Override,
    Rule,
    Scope,
    Selector,
    SlidingWindow,
)
from services.limits.present import duration

CHANGEABLE = ("resource", "scope", "daily_quota", "sliding_window", "failure_mode", "shadow")
PROVIDERS = "provider."
LONGEST_RATE = 3_600_000
"""Milliseconds for which delivery holds the slots of its calls, which it never commits."""


def rule_from(message: pb.Rule) -> Rule:
    """Raises INVALID_FIELD."""
    return checked(
        Rule(
            tenant_id=message.tenant_id,
            rule_id=message.rule_id,
            resource=message.resource,
            scope=Scope(message.scope),
            algorithm=_algorithm(message),
            failure_mode=FailureMode(message.failure_mode),
            shadow=message.shadow,
        )
    )


def changed(rule: Rule, message: pb.Rule, paths: Iterable[str]) -> Rule:
    """A rule with the fields of the mask taken from the message. Raises INVALID_UPDATE_MASK or INVALID_FIELD."""
    for path in paths:
        if path.split(".")[0] not in CHANGEABLE:
            raise _invalid_mask(path)
        match path.split("."):
            case ["resource"]:
                rule = replace(rule, resource=message.resource)
            case ["scope"]:
                rule = replace(rule, scope=Scope(message.scope))
            case ["failure_mode"]:
                rule = replace(rule, failure_mode=FailureMode(message.failure_mode))
            case ["shadow"]:
                rule = replace(rule, shadow=message.shadow)
            case [("daily_quota" | "sliding_window") as kind, *rest]:
                if message.WhichOneof("algorithm") != kind:
                    raise invalid_field(f"rule.{kind}", "is named by the update mask, but not set")
                rule = replace(rule, algorithm=_part(rule, _algorithm(message), rest, path))
            case _:
                raise _invalid_mask(path)
    return checked(rule)


def checked(rule: Rule) -> Rule:
    """Raises INVALID_FIELD when the parts of a rule do not fit."""
    if isinstance(rule.algorithm, DailyQuota):
        try:
            zone(rule.algorithm.time_zone or UNKNOWN_ZONE)
        except UnknownZone:
            raise invalid_field(
                "rule.daily_quota.time_zone", "is not the IANA name of a time zone, for example `Asia/Bishkek`"
            ) from None
    elif rule.failure_mode is FailureMode.POSTGRES:
        raise invalid_field("rule.failure_mode", "Postgres counts daily quotas only; take OPEN or CLOSED")
    if rule.resource.startswith(PROVIDERS):
        if isinstance(rule.algorithm, DailyQuota):
            raise invalid_field("rule.daily_quota", "calls of a provider are counted by sliding windows only")
        _check_rate(rule.algorithm.window, "rule.sliding_window.window")
    return rule


def _check_rate(window: int, field: str) -> None:
    if window > LONGEST_RATE:
        raise invalid_field(field, "is longer than an hour, for which calls of a provider are counted")


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
    match rule.algorithm:
        case DailyQuota(limit, time_zone):
            message.daily_quota.CopyFrom(pb.DailyQuota(limit=limit, time_zone=time_zone))
        case SlidingWindow(limit, window):
            message.sliding_window.CopyFrom(pb.SlidingWindow(limit=limit, window=duration(window)))
    if rule.updated_at is not None:
        message.updated_at.FromDatetime(rule.updated_at)
    return message


def override_from(message: pb.Override, rule: Rule) -> Override:
    """Raises INVALID_FIELD when a quota is given a window."""
    if not message.HasField("window"):
        return Override(message.limit)
    if isinstance(rule.algorithm, DailyQuota):
        raise invalid_field("override.window", "the rule is a daily quota and has no window")
    window = _milliseconds(message.window)
    if rule.resource.startswith(PROVIDERS):
        _check_rate(window, "override.window")
    return Override(message.limit, window)


def override_to(selector: Selector, override: Override) -> pb.Override:
    chosen = pb.Selector(**{f"{selector.scope.name.lower()}_id": selector.id})
    window = None if override.window is None else duration(override.window)
    return pb.Override(selector=chosen, limit=override.limit, window=window)


def selector_from(message: pb.Selector) -> Selector:
    field = message.WhichOneof("selector")
    assert field is not None, "the contract requires one"
    return Selector(Scope[field.removesuffix("_id").upper()], getattr(message, field))


def _algorithm(message: pb.Rule) -> DailyQuota | SlidingWindow:
    if message.HasField("daily_quota"):
        return DailyQuota(message.daily_quota.limit, message.daily_quota.time_zone)
    return SlidingWindow(message.sliding_window.limit, _milliseconds(message.sliding_window.window))


def _part(rule: Rule, given: DailyQuota | SlidingWindow, rest: list[str], path: str) -> DailyQuota | SlidingWindow:
    """The whole algorithm, or one field of it when the rule has that kind already."""
    if not rest:
        return given
    [name, *more] = rest
    if more or name not in given.__slots__:
        raise _invalid_mask(path)
    if type(rule.algorithm) is not type(given):
        raise invalid_field(f"rule.{path}", "changes the kind of the rule; name the whole of it in the mask")
    return replace(rule.algorithm, **{name: getattr(given, name)})


def _milliseconds(message: Duration) -> int:
    return message.ToMilliseconds()


def _invalid_mask(path: str) -> ParleyError:
    description = f"{path!r} is not one of {', '.join(CHANGEABLE)}"
    return ParleyError(
        Kind.INVALID,
        "INVALID_UPDATE_MASK",
        f"update_mask: {description}.",
        (FieldViolation("update_mask", description),),
        {"field": "update_mask"},
    )
