"""Shows and changes a tenant's rules."""

from typing import Any
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from parley.dialog.v1 import tenant_pb2
from parley.limits.v1 import limits_pb2

from parley_cli.durations import format_seconds
from parley_cli.faults import Fault
from parley_cli.local import Session
from parley_cli.output import as_dict, clock, enum_label

DAY = 86400
NO_LIMIT = 1_000_000_000
"""The most that a rule can allow."""


async def list_rules(session: Session) -> list[limits_pb2.Rule]:
    """Lists the tenant's rules, and the rules for every tenant that it has not replaced by its own."""
    request = limits_pb2.ListRulesRequest(tenant_id=session.tenant, page_size=1000)
    found = list((await session.limits.list_rules(request)).rules)
    own = {rule.rule_id for rule in found if rule.tenant_id == session.tenant}
    return [rule for rule in found if rule.tenant_id == session.tenant or rule.rule_id not in own]


async def find_rule(session: Session, rule_id: str, *, creating: bool) -> limits_pb2.Rule | None:
    """Finds a rule. Without one, returns None if `creating`, and raises `Fault` otherwise."""
    rules = await list_rules(session)
    for rule in rules:
        if rule.rule_id == rule_id:
            return rule
    if creating:
        return None
    known = ", ".join(sorted(rule.rule_id for rule in rules))
    raise Fault(
        f"there is no rule {rule_id!r}",
        f"Rules are {known}. To create a rule, name what it counts with --resource.",
    )


def new_rule(
    tenant: str, rule_id: str, resource: str, limit: int, per: int | None, chosen: dict[str, str]
) -> limits_pb2.Rule:
    """Makes a rule for each contact, or one that binds nobody until it is overridden for the chosen subject."""
    if per is None:
        raise Fault("a new rule needs --per", "Give it a duration of at most a day.")
    scope = limits_pb2.RuleScope.Value(f"RULE_SCOPE_{next(iter(chosen), 'contact_id').removesuffix('_id').upper()}")
    window = limits_pb2.SlidingWindow(limit=NO_LIMIT if chosen else limit, window=Duration(seconds=per))
    return limits_pb2.Rule(
        tenant_id=tenant,
        rule_id=rule_id,
        resource=resource,
        scope=scope,
        sliding_window=window,
        failure_mode=limits_pb2.FAILURE_MODE_OPEN,
    )


async def create_rule(session: Session, rule: limits_pb2.Rule) -> limits_pb2.Rule:
    create = limits_pb2.CreateRuleRequest(tenant_id=session.tenant, rule=rule, request_id=f"cli-{uuid4()}")
    return (await session.limits.create_rule(create)).rule


async def set_override(
    session: Session, rule: limits_pb2.Rule, limit: int, per: int | None, whom: limits_pb2.Selector
) -> limits_pb2.Rule:
    """Sets another limit for one bot, channel or contact."""
    override = limits_pb2.Override(selector=whom, limit=limit)
    if duration_field(algorithm_of(rule)):
        if per is not None:
            override.window.CopyFrom(Duration(seconds=per))
    elif per not in (None, limit_of(rule)[1]):
        raise Fault(f"rule {rule.rule_id!r} has no length that --per could change for one of its subjects")
    request = limits_pb2.SetOverrideRequest(
        tenant_id=session.tenant, rule_id=rule.rule_id, override=override, request_id=f"cli-{uuid4()}"
    )
    return (await session.limits.set_override(request)).rule


async def set_rule(
    session: Session, found: limits_pb2.Rule, limit: int, per: int | None, zone: str = ""
) -> limits_pb2.Rule:
    """Sets another limit for the tenant: changes its own rule, or copies the one for every tenant.

    The rule keeps its algorithm and its zone unless `zone` or another duration asks for others.
    """
    rule = limits_pb2.Rule()
    rule.CopyFrom(found)
    rule.tenant_id = session.tenant
    del rule.overrides[:]
    change(rule, limit, per, zone)
    if found.tenant_id == session.tenant:
        request = limits_pb2.UpdateRuleRequest(
            tenant_id=session.tenant,
            rule=rule,
            update_mask=FieldMask(paths=[str(rule.WhichOneof("algorithm"))]),
            request_id=f"cli-{uuid4()}",
        )
        return (await session.limits.update_rule(request)).rule
    if rule.WhichOneof("algorithm") == "daily_quota" and not zone:
        rule.daily_quota.time_zone = await time_zone(session) or rule.daily_quota.time_zone
    return await create_rule(session, rule)


def change(rule: limits_pb2.Rule, limit: int, per: int | None, zone: str) -> None:
    """Gives a rule another limit.

    A daily quota with another duration becomes a sliding window, and a sliding window with a zone a daily quota.
    """
    kind = str(rule.WhichOneof("algorithm"))
    if kind == "daily_quota" and per not in (None, DAY):
        rule.sliding_window.window.seconds = per or 0
    elif kind == "sliding_window" and zone:
        rule.daily_quota.time_zone = zone
    parameters = algorithm_of(rule)
    parameters.limit = limit
    if zone and not hasattr(parameters, "time_zone"):
        raise Fault(f"rule {rule.rule_id!r} has no time zone", "Leave --zone out.")
    if zone:
        parameters.time_zone = zone
    if per is None or kind == "daily_quota":
        return
    length = duration_field(parameters)
    if not length:
        raise Fault(f"rule {rule.rule_id!r} has no length that --per could change", "Leave --per out.")
    if not zone:
        getattr(parameters, length).CopyFrom(Duration(seconds=per))


async def unset_override(session: Session, rule_id: str, whom: limits_pb2.Selector) -> limits_pb2.Rule:
    """Restores the rule's own limit for one bot, channel or contact."""
    request = limits_pb2.DeleteOverrideRequest(
        tenant_id=session.tenant, rule_id=rule_id, selector=whom, request_id=f"cli-{uuid4()}"
    )
    return (await session.limits.delete_override(request)).rule


async def unset_rule(session: Session, found: limits_pb2.Rule) -> limits_pb2.Rule | None:
    """Restores the rule for every tenant; returns it, if there is one. Raises `Fault` if the tenant has no own rule."""
    if found.tenant_id != session.tenant:
        raise Fault(
            f"rule {found.rule_id!r} is the one for every tenant", "`parley limits set` gives this tenant its own."
        )
    request = limits_pb2.DeleteRuleRequest(tenant_id=session.tenant, rule_id=found.rule_id, request_id=f"cli-{uuid4()}")
    await session.limits.delete_rule(request)
    return next((rule for rule in await list_rules(session) if rule.rule_id == found.rule_id), None)


async def time_zone(session: Session) -> str:
    """Returns the tenant's time zone, in which its days begin."""
    request = tenant_pb2.GetTenantRequest(tenant_id=session.tenant)
    return (await session.tenants.get_tenant(request)).tenant.time_zone


def algorithm_of(rule: limits_pb2.Rule) -> Any:
    """Returns the message with the parameters of its algorithm."""
    return getattr(rule, str(rule.WhichOneof("algorithm")))


def duration_field(parameters: Any) -> str:
    """Returns the name of the field with a duration; empty if the algorithm has none."""
    return next((field.name for field in parameters.DESCRIPTOR.fields if field.message_type is not None), "")


def limit_of(rule: limits_pb2.Rule) -> tuple[int, int | None]:
    """Returns the units and the seconds that they are allowed in; None where that is no fixed number."""
    parameters = algorithm_of(rule)
    if rule.WhichOneof("algorithm") == "daily_quota":
        return parameters.limit, DAY
    length = duration_field(parameters)
    return parameters.limit, getattr(parameters, length).seconds if length else None


def length_of(rule: limits_pb2.Rule) -> str:
    """Says in what time, or in which way, the limit is counted."""
    kind, parameters, (_, per) = str(rule.WhichOneof("algorithm")), algorithm_of(rule), limit_of(rule)
    if not hasattr(parameters, "time_zone"):
        return format_seconds(per) if per else kind.replace("_", " ")
    number = getattr(parameters, "period", limits_pb2.CALENDAR_PERIOD_DAY)
    period = enum_label("CalendarPeriod", limits_pb2.CalendarPeriod.Name(number)).lower()
    zone = parameters.time_zone or "the tenant's zone"
    unit = f"{parameters.unit} a " if hasattr(parameters, "unit") else ""
    return f"{unit}{period} in {zone}"


def describe(rule: limits_pb2.Rule, status: limits_pb2.LimitStatus | None = None) -> dict[str, Any]:
    limit, per = limit_of(rule)
    shown = as_dict(rule, id="rule_id") | {"limit": limit, "per": per}
    return shown | ({"usage": as_dict(status)} if status else {})


def rows_of(rule: limits_pb2.Rule, status: limits_pb2.LimitStatus | None = None) -> list[tuple[object, ...]]:
    """Returns a row for the rule and one for each of its overrides."""
    limit, length = limit_of(rule)[0], length_of(rule)
    scope = enum_label("RuleScope", limits_pb2.RuleScope.Name(rule.scope)).lower()
    owner = "every tenant" if rule.tenant_id == "*" else rule.tenant_id
    used = (status.used, status.remaining, clock(status.resets_at)) if status else ("", "", "")
    rows: list[tuple[object, ...]] = [(rule.rule_id, owner, rule.resource, scope, limit, length, *used)]
    for override in rule.overrides:
        kind = str(override.selector.WhichOneof("selector"))
        whom = f"{kind.removesuffix('_id')} {getattr(override.selector, kind)}"
        window = format_seconds(override.window.seconds) if override.HasField("window") else length
        rows.append(("", "", "", whom, override.limit, window, "", "", ""))
    return rows
