"""`parley limits`: shows and changes how much is allowed."""

from typing import Annotated
from uuid import uuid4

import typer

from parley.limits.v1 import limits_pb2

from parley_cli.durations import METAVAR, parse
from parley_cli.faults import Fault
from parley_cli.local import Session, perform
from parley_cli.output import DEFAULT_TENANT, Json, Tenant, print_json, print_table
from parley_cli.rules import (
    DAY,
    create_rule,
    describe,
    find_rule,
    limit_of,
    list_rules,
    new_rule,
    rows_of,
    set_override,
    set_rule,
    unset_override,
    unset_rule,
)

app = typer.Typer(help="Show and change how much is allowed, and show how much was used.", no_args_is_help=True)

COLUMNS = ("rule", "of", "counts", "for each", "limit", "per", "used", "left", "again")
RuleId = Annotated[str, typer.Option("--rule", help="The rule, as `parley limits show` names it.")]
Bot = Annotated[str, typer.Option("--bot", help="Only for this bot.")]
Channel = Annotated[str, typer.Option("--channel", help="Only for this channel.")]
Contact = Annotated[str, typer.Option("--contact", help="Only for this contact.")]
Conversation = Annotated[str, typer.Option("--conversation", help="Only for this conversation.")]


@app.command("show")
def show(
    bot: Bot = "",
    channel: Channel = "",
    contact: Contact = "",
    conversation: Conversation = "",
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Show all rules and, for a bot, channel, contact or conversation, what it has used."""
    subject = named(bot, channel, contact, conversation)

    async def work(session: Session) -> tuple[list[limits_pb2.Rule], list[limits_pb2.LimitStatus]]:
        rules = await list_rules(session)
        if not subject:
            return rules, []
        request = limits_pb2.GetUsageRequest(tenant_id=tenant, subject=limits_pb2.Subject(**subject))
        return rules, list((await session.limits.get_usage(request)).statuses)

    rules, statuses = perform(tenant, work)
    used = {status.rule_id: status for status in statuses}
    if as_json:
        print_json([describe(rule, used.get(rule.rule_id)) for rule in rules])
        return
    rows = [row for rule in rules for row in rows_of(rule, used.get(rule.rule_id))]
    print_table(COLUMNS, rows, empty="no rules")


@app.command("set")
def set_limit(
    rule: RuleId,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Units.")],
    per: Annotated[
        float | None,
        typer.Option("--per", parser=parse, metavar=METAVAR, help="60s, 10m, 24h; by default the rule's own."),
    ] = None,
    zone: Annotated[str, typer.Option("--zone", help="Count days of this time zone, such as Asia/Bishkek.")] = "",
    bot: Bot = "",
    channel: Channel = "",
    contact: Contact = "",
    conversation: Conversation = "",
    resource: Annotated[str, typer.Option(help="What a new rule counts: model.turn, provider.chat2desk ...")] = "",
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Set a limit for the tenant, or for one bot, channel, contact or conversation. It takes effect within a second.

    With --resource, create a rule that does not exist yet, for each contact or for the one that is named.
    """
    chosen = only_one(bot, channel, contact, conversation)
    length = whole_seconds(per, zone, chosen)

    async def work(session: Session) -> limits_pb2.Rule:
        found = await find_rule(session, rule, creating=bool(resource))
        if found is None:
            found = await create_rule(session, new_rule(tenant, rule, resource, limit, length, chosen))
            if not chosen:
                return found
        if chosen:
            return await set_override(session, found, limit, length, limits_pb2.Selector(**chosen))
        return await set_rule(session, found, limit, length, zone)

    changed = perform(tenant, work)
    if as_json:
        print_json(describe(changed) | ({"limit": limit, "per": length or limit_of(changed)[1]} if chosen else {}))
    else:
        print_rule(changed)


@app.command("unset")
def unset(
    rule: RuleId,
    bot: Bot = "",
    channel: Channel = "",
    contact: Contact = "",
    conversation: Conversation = "",
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Remove the limit that is set for somebody, or the tenant's own, and show the one that applies instead."""
    chosen = only_one(bot, channel, contact, conversation)

    async def work(session: Session) -> limits_pb2.Rule | None:
        found = await find_rule(session, rule, creating=False)
        assert found is not None
        if chosen:
            return await unset_override(session, rule, limits_pb2.Selector(**chosen))
        return await unset_rule(session, found)

    left = perform(tenant, work)
    if as_json:
        print_json(describe(left) if left else None)
    elif left is None:
        typer.echo(f"{rule} is gone; nothing takes its place")
    else:
        print_rule(left)


@app.command("reset")
def reset(
    rule: RuleId,
    bot: Bot = "",
    channel: Channel = "",
    contact: Contact = "",
    conversation: Conversation = "",
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Forget what a bot, channel, contact or conversation has used under a rule."""
    chosen = only_one(bot, channel, contact, conversation)
    if not chosen:
        raise Fault("say whose use is forgotten", "Give --contact, --conversation, --bot or --channel.")
    subject = limits_pb2.Subject(**chosen)
    request = limits_pb2.ResetUsageRequest(tenant_id=tenant, rule_id=rule, subject=subject, request_id=f"cli-{uuid4()}")
    perform(tenant, lambda session: session.limits.reset_usage(request))
    if as_json:
        print_json({"rule_id": rule, "reset": True})
    else:
        typer.echo(f"the use of {bot or channel or contact or conversation} under {rule} begins anew")


def named(bot: str, channel: str, contact: str, conversation: str) -> dict[str, str]:
    """Returns the given options as fields of a subject."""
    fields = {"bot_id": bot, "channel_id": channel, "contact_id": contact, "conversation_id": conversation}
    return {field: value for field, value in fields.items() if value}


def only_one(bot: str, channel: str, contact: str, conversation: str) -> dict[str, str]:
    """Returns the given option as a field of a subject. Raises `Fault` if there are several."""
    chosen = named(bot, channel, contact, conversation)
    if len(chosen) > 1:
        options = " and ".join(f"--{field.removesuffix('_id')}" for field in chosen)
        raise Fault(f"{options} exclude each other", "Set one limit for each.")
    return chosen


def whole_seconds(per: float | None, zone: str, chosen: dict[str, str]) -> int | None:
    """Returns the length of a window. Raises `Fault` for one that limits cannot count."""
    if zone and (chosen or per not in (None, DAY)):
        raise Fault("--zone is for a rule that counts days", "Leave --per out, and name nobody.")
    if per is None:
        return None
    if not 1 <= per <= DAY or per != int(per):
        raise Fault(f"--per {per:g} s is not counted", "Choose whole seconds, from 1s to 24h.")
    return int(per)


def print_rule(rule: limits_pb2.Rule) -> None:
    """Prints a rule, without what was used of it."""
    print_table(COLUMNS[:6], [row[:6] for row in rows_of(rule)])
