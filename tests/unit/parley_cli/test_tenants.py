"""What `parley tenants` sends and prints."""

import pytest

from parley.dialog.v1 import tenant_pb2

from tests.unit.parley_cli.conftest import Scripted, document, parley


def a_tenant(**days: int) -> tenant_pb2.Tenant:
    kept = {"messages_days": 400, "journal_days": 30, "deliveries_days": 90, "spans_days": 7, "orders_days": 0} | days
    return tenant_pb2.Tenant(
        tenant_id="demo", display_name="Demo", time_zone="Asia/Bishkek", retention=tenant_pb2.Retention(**kept)
    )


def test_a_tenant_shows_for_how_long_its_data_is_kept(stack: Scripted) -> None:
    stack.answers["GetTenant"] = tenant_pb2.GetTenantResponse(tenant=a_tenant())
    shown = document("tenants", "show", "demo")
    assert (shown["id"], shown["time_zone"]) == ("demo", "Asia/Bishkek")
    assert shown["retention"] == {
        "messages_days": 400,
        "journal_days": 30,
        "deliveries_days": 90,
        "spans_days": 7,
        "orders_days": 0,
    }
    lines = dict(line.split("  ", 1) for line in parley("tenants", "show").stdout.splitlines())
    told = {name: value.strip() for name, value in lines.items()}
    assert (told["keeps messages"], told["keeps traces"], told["keeps orders"]) == ("400 days", "7 days", "for ever")


def test_a_tenant_is_made_and_changed_with_days_as_people_write_them(stack: Scripted) -> None:
    stack.answers["CreateTenant"] = tenant_pb2.CreateTenantResponse(tenant=a_tenant(messages_days=90))
    stack.answers["UpdateTenant"] = tenant_pb2.UpdateTenantResponse(tenant=a_tenant(spans_days=3))
    made = document("tenants", "create", "--id", "demo", "--name", "Demo", "--keep-messages", "90d")
    assert made["retention"]["messages_days"] == 90
    created = stack.one("CreateTenant").tenant
    assert created.retention == tenant_pb2.Retention(messages_days=90)
    options = ("--keep-traces", "72h", "--keep-orders", "forever", "--keep-journal", "default")
    assert document("tenants", "update", "demo", *options)["retention"]["spans_days"] == 3
    update = stack.one("UpdateTenant")
    assert sorted(update.update_mask.paths) == [
        "retention.journal_days",
        "retention.orders_days",
        "retention.spans_days",
    ]
    assert update.tenant.retention == tenant_pb2.Retention(spans_days=3, orders_days=0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--keep-messages", "36h"),
        ("--keep-messages", "30"),
        ("--keep-journal", "0d"),
        ("--keep-deliveries", "40000d"),
        ("--keep-orders", "soon"),
        ("--keep-traces", "forever"),
    ],
)
def test_days_that_cannot_be_kept_are_refused_by_the_options_name(stack: Scripted, option: str, value: str) -> None:
    result = parley("tenants", "update", "demo", option, value)
    assert result.exit_code == 2
    assert option in result.stderr
    assert "UpdateTenant" not in stack.requests


def test_a_tenant_is_changed_in_something(stack: Scripted) -> None:
    assert "nothing to change" in parley("tenants", "update", "demo").stderr
