"""`parley tenants`: companies, and how long their data is kept."""

from typing import Annotated, Any
from uuid import uuid4

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from parley.dialog.v1 import tenant_pb2

from parley_cli.durations import SECONDS, format_seconds, parse
from parley_cli.faults import Fault
from parley_cli.local import perform
from parley_cli.options import Options, option, taking
from parley_cli.output import DEFAULT_TENANT, Json, as_dict, clock, print_fields, print_json

app = typer.Typer(help="Companies, and how long their data is kept.", no_args_is_help=True)

FOREVER, DEFAULT = 0, -1
WORDS = {"forever": FOREVER, "default": DEFAULT}
MOST = 36_500
METAVAR = "DAYS|forever|default"


def days(text: str) -> int:
    """Returns whole days, or what a word stands for. Raises `typer.BadParameter` for anything else."""
    word = text.strip().lower()
    if word in WORDS:
        return WORDS[word]
    count, rest = divmod(parse(text), SECONDS["d"])
    if rest or not 1 <= count <= MOST:
        raise typer.BadParameter(f"{text!r} is not from 1d to {MOST}d in whole days; write 30d, forever or default")
    return int(count)


def days_at_most(text: str) -> int:
    """Does the same as `days`, but refuses `forever`."""
    count = days(text)
    if count == FOREVER:
        raise typer.BadParameter("traces are kept for PARLEY_TELEMETRY_DAYS at most; write 3d or default")
    return count


def keep(flag: str, what: str, **more: Any) -> Any:
    return option(int, flag, f"Days for {what}.", **({"parser": days, "metavar": METAVAR} | more))


Id = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant.", envvar="PARLEY_TENANT")]
KEEP: Options = {
    "messages_days": keep("--keep-messages", "messages, their answers and ends of dialogs"),
    "journal_days": keep("--keep-journal", "model and tool calls"),
    "deliveries_days": keep("--keep-deliveries", "deliveries"),
    "spans_days": keep("--keep-traces", "traces, including failed ones", parser=days_at_most, metavar="DAYS|default"),
    "orders_days": keep("--keep-orders", "orders"),
}
"""By the fields of `Retention`."""


@app.command("create")
@taking(KEEP)
def create(
    tenant_id: Annotated[str, typer.Option("--id", help="Its id: lower-case letters, digits and dashes.")],
    name: Annotated[str, typer.Option("--name", help="The name that people see.")] = "",
    zone: Annotated[str, typer.Option("--time-zone", help="The time zone of its days, such as Asia/Bishkek.")] = "UTC",
    region: Annotated[
        str, typer.Option("--region", help="The region of phone numbers without a country code, such as KG.")
    ] = "",
    *,
    given: dict[str, int],
    as_json: Json = False,
) -> None:
    """Create a tenant."""
    tenant = tenant_pb2.Tenant(tenant_id=tenant_id, display_name=name, time_zone=zone, default_region=region)
    apply(tenant.retention, given)
    request = tenant_pb2.CreateTenantRequest(tenant=tenant, request_id=f"cli-{uuid4()}")
    show_one(perform(tenant_id, lambda session: session.tenants.create_tenant(request)).tenant, as_json=as_json)


@app.command("show")
def show(tenant_id: Id = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Show a tenant and how long its data is kept."""
    request = tenant_pb2.GetTenantRequest(tenant_id=tenant_id)
    show_one(perform(tenant_id, lambda session: session.tenants.get_tenant(request)).tenant, as_json=as_json)


@app.command("update")
@taking(KEEP)
def update(tenant_id: Id = DEFAULT_TENANT, *, given: dict[str, int], as_json: Json = False) -> None:
    """Change how long a tenant's data is kept. Data that is then too old is removed within hours."""
    if not given:
        raise Fault("nothing to change", "`parley tenants update --help` lists what can be changed.")
    tenant = tenant_pb2.Tenant(tenant_id=tenant_id)
    apply(tenant.retention, given)
    request = tenant_pb2.UpdateTenantRequest(
        tenant_id=tenant_id,
        tenant=tenant,
        update_mask=FieldMask(paths=[f"retention.{name}" for name in given]),
        request_id=f"cli-{uuid4()}",
    )
    show_one(perform(tenant_id, lambda session: session.tenants.update_tenant(request)).tenant, as_json=as_json)


def apply(retention: tenant_pb2.Retention, given: dict[str, int]) -> None:
    """Sets what was given. `default` leaves a field absent, so that the settings apply."""
    for name, value in given.items():
        if value != DEFAULT:
            setattr(retention, name, value)


def show_one(tenant: tenant_pb2.Tenant, *, as_json: bool) -> None:
    if as_json:
        print_json(as_dict(tenant, id="tenant_id"))
        return
    kept = tenant.retention
    print_fields(
        {
            "id": tenant.tenant_id,
            "name": tenant.display_name,
            "time zone": tenant.time_zone,
            "region": tenant.default_region,
            "created": clock(tenant.created_at),
            "keeps messages": format_days(kept.messages_days),
            "keeps journal": format_days(kept.journal_days),
            "keeps deliveries": format_days(kept.deliveries_days),
            "keeps traces": format_days(kept.spans_days),
            "keeps orders": format_days(kept.orders_days),
        }
    )


def format_days(count: int) -> str:
    return format_seconds(count * SECONDS["d"]) if count else "for ever"
