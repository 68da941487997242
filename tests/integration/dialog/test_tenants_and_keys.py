"""SEC-2: tenants and API keys."""

from datetime import UTC, datetime, timedelta

import pytest

from parley.dialog.v1 import tenant_pb2

from parley_client.dialog import TenantClient
from parley_client.errors import (
    AlreadyExists,
    InvalidArgument,
    PermissionDenied,
    Unauthenticated,
)
from tests.integration.dialog.conftest import CHANNEL, TENANT, World


async def test_an_api_key_opens_until_it_is_revoked(dialog: World) -> None:
    request = tenant_pb2.CreateApiKeyRequest(
        tenant_id=TENANT, scopes=[tenant_pb2.API_KEY_SCOPE_CHAT], channel_id="api", request_id="k1"
    )
    made = await dialog.tenants.create_api_key(request)
    assert made.key.startswith(f"pk_{made.api_key.key_id}_")
    with pytest.raises(AlreadyExists):
        await dialog.tenants.create_api_key(request)
    edge = TenantClient(dialog.connection("edge"))
    verify = tenant_pb2.VerifyApiKeyRequest(key=made.key)
    found = (await edge.verify_api_key(verify)).api_key
    assert (found.tenant_id, found.channel_id, list(found.scopes)) == (TENANT, "api", [1])
    for wrong in (made.key[:-1] + "!", made.key[:-1] + ("a" if made.key[-1] != "a" else "b"), "pk_x", "nonsense"):
        with pytest.raises(Unauthenticated) as refused:
            await edge.verify_api_key(tenant_pb2.VerifyApiKeyRequest(key=wrong))
        assert refused.value.reason == "INVALID_API_KEY"
    stored = await dialog.database.fetchval("SELECT string_agg(keys::text, '') FROM dialog.api_keys AS keys")
    assert made.key.split("_", 2)[2] not in stored
    listed = (await dialog.tenants.list_api_keys(tenant_pb2.ListApiKeysRequest(tenant_id=TENANT))).api_keys
    assert [key.key_id for key in listed] == [made.api_key.key_id]
    await dialog.tenants.revoke_api_key(
        tenant_pb2.RevokeApiKeyRequest(tenant_id=TENANT, key_id=made.api_key.key_id, request_id="k2")
    )
    with pytest.raises(Unauthenticated):
        await edge.verify_api_key(verify)


async def test_the_list_tells_what_a_key_is_for_and_whether_it_is_in_use(dialog: World) -> None:
    """SEC-2"""
    request = tenant_pb2.CreateApiKeyRequest(
        tenant_id=TENANT, scopes=[tenant_pb2.API_KEY_SCOPE_CHAT], channel_id=CHANNEL, request_id="k1", name="website"
    )
    made = await dialog.tenants.create_api_key(request)

    async def listed() -> tenant_pb2.ApiKey:
        (key,) = (await dialog.tenants.list_api_keys(tenant_pb2.ListApiKeysRequest(tenant_id=TENANT))).api_keys
        return key

    assert ((await listed()).name, (await listed()).HasField("last_used_at")) == ("website", False)
    edge = TenantClient(dialog.connection("edge"))
    verify = tenant_pb2.VerifyApiKeyRequest(key=made.key)
    await edge.verify_api_key(verify)
    used = await listed()
    assert used.HasField("last_used_at")
    await edge.verify_api_key(verify)
    assert (await listed()).last_used_at == used.last_used_at, "a use within the hour is no news"


async def test_an_expired_api_key_is_refused(dialog: World) -> None:
    request = tenant_pb2.CreateApiKeyRequest(
        tenant_id=TENANT, scopes=[tenant_pb2.API_KEY_SCOPE_CHAT], channel_id="api", request_id="k1"
    )
    request.expires_at.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    made = await dialog.tenants.create_api_key(request)
    await dialog.database.execute("UPDATE dialog.api_keys SET expires_at = now() - interval '1 second'")
    edge = TenantClient(dialog.connection("edge"))
    with pytest.raises(Unauthenticated):
        await edge.verify_api_key(tenant_pb2.VerifyApiKeyRequest(key=made.key))


async def test_a_tenant_is_made_by_those_who_may_act_for_all(dialog: World) -> None:
    request = tenant_pb2.CreateTenantRequest(
        tenant=tenant_pb2.Tenant(tenant_id="new", time_zone="Asia/Bishkek", default_region="KG"), request_id="t1"
    )
    with pytest.raises(PermissionDenied):
        await TenantClient(dialog.connection("operator", tenants=("new",))).create_tenant(request)
    made = (await dialog.tenants.create_tenant(request)).tenant
    assert (await dialog.tenants.get_tenant(tenant_pb2.GetTenantRequest(tenant_id="new"))).tenant == made
    request.tenant.time_zone, request.request_id = "Mars/Olympus", "t2"
    with pytest.raises(InvalidArgument) as raised:
        await dialog.tenants.create_tenant(request)
    assert raised.value.metadata["field"] == "tenant.time_zone"
