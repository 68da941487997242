"""TenantService."""

from typing import Any

import grpc

from parley.dialog.v1 import tenant_pb2, tenant_pb2_grpc

from services.dialog.usecases.tenants import Tenants

Rpc = grpc.aio.ServicerContext[Any, Any]


class TenantServicer(tenant_pb2_grpc.TenantServiceServicer):
    """Answers the RPCs of parley.dialog.v1.TenantService."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    async def CreateTenant(
        self, request: tenant_pb2.CreateTenantRequest, context: Rpc
    ) -> tenant_pb2.CreateTenantResponse:
        return await self._tenants.create(request)

    async def GetTenant(self, request: tenant_pb2.GetTenantRequest, context: Rpc) -> tenant_pb2.GetTenantResponse:
        return await self._tenants.get(request)

    async def UpdateTenant(
        self, request: tenant_pb2.UpdateTenantRequest, context: Rpc
    ) -> tenant_pb2.UpdateTenantResponse:
        return await self._tenants.update(request)

    async def CreateApiKey(
        self, request: tenant_pb2.CreateApiKeyRequest, context: Rpc
    ) -> tenant_pb2.CreateApiKeyResponse:
        return await self._tenants.create_key(request)

    async def ListApiKeys(self, request: tenant_pb2.ListApiKeysRequest, context: Rpc) -> tenant_pb2.ListApiKeysResponse:
        return await self._tenants.list_keys(request)

    async def RevokeApiKey(
        self, request: tenant_pb2.RevokeApiKeyRequest, context: Rpc
    ) -> tenant_pb2.RevokeApiKeyResponse:
        return await self._tenants.revoke_key(request)

    async def VerifyApiKey(
        self, request: tenant_pb2.VerifyApiKeyRequest, context: Rpc
    ) -> tenant_pb2.VerifyApiKeyResponse:
        return await self._tenants.verify_key(request)
