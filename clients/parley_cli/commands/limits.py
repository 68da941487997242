"""`parley limits`: how much is allowed."""

from typing import Annotated, Any
from uuid import uuid4

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from parley.dialog.v1 import tenant_pb2
from parley.limits.v1 import limits_pb2

from parley_cli.faults import Fault
from parley_cli.local import Session, perform
from parley_cli.output import DEFAULT_TENANT, Json, Tenant, as_dict, clock, enum_label, print_json, print_table

app = typer.Typer(help="How much is allowed, and how much was used.", no_args_is_help=True)

DAY = 86400
NO_LIMIT = 1_000_000_000
"""The most that a rule can allow."""
Bot = Annotated[str, typer.Option("--bot", help="Only for this bot.")]
Channel = Annotated[str, typer.Option("--channel", help="Only for this channel.")]
Contact = Annotated[str, typer.Option("--contact", help="Only for this contact.")]


@app.command("show")
def show(
    bot: Bot = "", channel: Channel = "", contact: Contact = "", tenant: Tenant = DEFAULT_TENANT, as_json: Json = False
) -> None:
    """Show all rules; for a bot, channel or contact also what it has used."""
    subject = limits_pb2.Subject(bot_id=bot, channel_id=channel, contact_id=contact)

    async def work(session: Session) -> tuple[list[limits_pb2.Rule], list[limits_pb2.LimitStatus]]:
        rules = await list_rules(session)
        if not (bot or channel or contact):
            return rules, []
        request = limits_pb2.GetUsageRequest(tenant_id=tenant, subject=subject)
        return rules, list((await session.limits.get_usage(request)).statuses)

    rules, statuses = perform(tenant, work)
    used = {status.rule_id: status for status in statuses}
    if as_json:
        print_json([describe(rule, used.get(rule.rule_id)) for rule in rules])
        return
    rows = [row for rule in rules for row in rows_of(rule, used.get(rule.rule_id))]
    print_table(("rule", "of", "counts", "for each", "limit", "per", "used", "left", "again"), rows, empty="no rules")


@app.command("set")
def set_limit(
    rule: Annotated[str, typer.Option("--rule", help="The rule, as `parley limits show` names it.")],
    limit: Annotated[int, typer.Option("--limit", min=0, help="Units.")],
    per: Annotated[int | None, typer.Option("--per", min=1, max=DAY, help="Seconds; the rule's own if absent.")] = None,
    bot: Bot = "",
    channel: Channel = "",
    contact: Contact = "",
    resource: Annotated[str, typer.Option(help="What a new rule counts: model.turn, provider.chat2desk ...")] = "",
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Set a limit for the tenant, or for one bot, channel or contact of it. It holds within a second.

    With --resource, a rule that does not exist is made: so many for each contact, or for the one that is named.
    """
    chosen = [name for name, value in (("--bot", bot), ("--channel", channel), ("--contact", contact)) if value]
    if len(chosen) > 1:
        raise Fault(f"{' and '.join(chosen)} exclude each other", "Set one limit for each.")

    async def work(session: Session) -> limits_pb2.Rule:
        found = await find_rule(session, rule, creating=bool(resource))
        if found is None:
            found = await create_rule(session, new_rule(tenant, rule, resource, limit, per, chosen))
            if not chosen:
                return found
        if chosen:
            return await set_override(session, found, limit, per, selector(bot, channel, contact))
        return await set_rule(session, found, limit, per)

    changed = perform(tenant, work)
    if as_json:
        print_json(describe(changed) | ({"limit": limit, "per": per or limit_of(changed)[1]} if chosen else {}))
    else:
        print_table(("rule", "of", "counts", "for each", "limit", "per", "", "", ""), rows_of(changed))


async def list_rules(session: Session) -> list[limits_pb2.Rule]:
    """The tenant's rules, and those for every tenant that it has none of its own for."""
    request = limits_pb2.ListRulesRequest(tenant_id=session.tenant, page_size=1000)
    found = list((await session.limits.list_rules(request)).rules)
    own = {rule.rule_id for rule in found if rule.tenant_id == session.tenant}
    return [rule for rule in found if rule.tenant_id == session.tenant or rule.rule_id not in own]


async def find_rule(session: Session, rule_id: str, *, creating: bool) -> limits_pb2.Rule | None:
    """The rule; None when it is to be made. Raises `Fault` when there is none."""
    rules = await list_rules(session)
    for rule in rules:
        if rule.rule_id == rule_id:
            return rule
    if creating:
        return None
    known = ", ".join(sorted(rule.rule_id for rule in rules))
    raise Fault(
        f"there is no rule {rule_id!r}", f"Rules are {known}. To make one, say with --resource what it is to count."
    )


def new_rule(
    tenant: str, rule_id: str, resource: str, limit: int, per: int | None, chosen: list[str]
) -> limits_pb2.Rule:
    """A rule for each contact; or one that binds nobody, to be overridden for the bot, channel or contact chosen."""
    if per is None:
        raise Fault("a new rule needs --per", "Give it seconds, 86400 at most.")
    scope = limits_pb2.RuleScope.Value(f"RULE_SCOPE_{(chosen or ['--contact'])[0].removeprefix('--').upper()}")
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
    """Another limit for one of them."""
    override = limits_pb2.Override(selector=whom, limit=limit)
    if rule.WhichOneof("algorithm") == "sliding_window":
        if per is not None:
            override.window.CopyFrom(Duration(seconds=per))
    elif per not in (None, DAY):
        raise Fault(f"rule {rule.rule_id!r} counts days: --per can only be {DAY} for one of its subjects")
    request = limits_pb2.SetOverrideRequest(
        tenant_id=session.tenant, rule_id=rule.rule_id, override=override, request_id=f"cli-{uuid4()}"
    )
    return (await session.limits.set_override(request)).rule


async def set_rule(session: Session, found: limits_pb2.Rule, limit: int, per: int | None) -> limits_pb2.Rule:
    """Another limit for the tenant: its own rule is changed, or made after the one for every tenant."""
    rule = limits_pb2.Rule()
    rule.CopyFrom(found)
    rule.tenant_id = session.tenant
    del rule.overrides[:]
    is_window = found.WhichOneof("algorithm") == "sliding_window"
    if is_window or per not in (None, DAY):
        window = Duration(seconds=per) if per is not None else found.sliding_window.window
        rule.sliding_window.CopyFrom(limits_pb2.SlidingWindow(limit=limit, window=window))
    else:
        rule.daily_quota.limit = limit
    if found.tenant_id == session.tenant:
        request = limits_pb2.UpdateRuleRequest(
            tenant_id=session.tenant,
            rule=rule,
            update_mask=FieldMask(paths=[str(rule.WhichOneof("algorithm"))]),
            request_id=f"cli-{uuid4()}",
        )
        return (await session.limits.update_rule(request)).rule
    if rule.WhichOneof("algorithm") == "daily_quota":
        rule.daily_quota.time_zone = await time_zone(session) or rule.daily_quota.time_zone
    return await create_rule(session, rule)


async def time_zone(session: Session) -> str:
    """Where the tenant's days begin."""
    request = tenant_pb2.GetTenantRequest(tenant_id=session.tenant)
    return (await session.tenants.get_tenant(request)).tenant.time_zone


def selector(bot: str, channel: str, contact: str) -> limits_pb2.Selector:
    if bot:
        return limits_pb2.Selector(bot_id=bot)
    if channel:
        return limits_pb2.Selector(channel_id=channel)
    return limits_pb2.Selector(contact_id=contact)


def limit_of(rule: limits_pb2.Rule) -> tuple[int, int]:
    """Units, and seconds that they are for."""
    if rule.WhichOneof("algorithm") == "daily_quota":
        return rule.daily_quota.limit, DAY
    return rule.sliding_window.limit, rule.sliding_window.window.seconds


def describe(rule: limits_pb2.Rule, status: limits_pb2.LimitStatus | None = None) -> dict[str, Any]:
    limit, per = limit_of(rule)
    shown = as_dict(rule, id="rule_id") | {"limit": limit, "per": per}
    return shown | ({"usage": as_dict(status)} if status else {})


def rows_of(rule: limits_pb2.Rule, status: limits_pb2.LimitStatus | None = None) -> list[tuple[object, ...]]:
    """A row for the rule, and one for each of its overrides."""
    limit, per = limit_of(rule)
    scope = enum_label("RuleScope", limits_pb2.RuleScope.Name(rule.scope)).lower()
    owner = "every tenant" if rule.tenant_id == "*" else rule.tenant_id
    days = rule.WhichOneof("algorithm") == "daily_quota"
    length = f"day in {rule.daily_quota.time_zone}" if days else f"{per} s"
    used = (status.used, status.remaining, clock(status.resets_at)) if status else ("", "", "")
    rows: list[tuple[object, ...]] = [(rule.rule_id, owner, rule.resource, scope, limit, length, *used)]
    for override in rule.overrides:
        kind = str(override.selector.WhichOneof("selector"))
        whom = f"{kind.removesuffix('_id')} {getattr(override.selector, kind)}"
        window = f"{override.window.seconds} s" if override.HasField("window") else length
        rows.append(("", "", "", whom, override.limit, window, "", "", ""))
    return rows
