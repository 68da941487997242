"""What the contracts say of each RPC, read from the descriptors once at start."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pool import Default

from parley.common.v1 import access_pb2

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""What the transport takes at most."""
DEFAULT_REQUEST_BYTES = 64 * 1024
"""What a method takes whose contract says nothing of it."""

OPEN_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
"""Anyone may ask these; no interceptor touches them."""


@dataclass(frozen=True)
class Method:
    """One RPC of a server."""

    path: str
    """`/parley.limits.v1.LimitsService/Reserve`, as on the wire."""
    callers: frozenset[str]
    """Names of the callers that may use it; empty for nobody."""
    has_tenant: bool
    """Whether the request names a tenant."""
    is_batch: bool
    """Whether the request carries calls as items; each is then checked by `run_items`."""
    is_stream: bool
    """Whether requests or responses are a stream."""
    max_request_bytes: int
    """How large a request may be."""

    @property
    def name(self) -> str:
        """`parley.limits.v1.LimitsService/Reserve`, as in spans."""
        return self.path[1:]


def methods_of(services: Iterable[str], extra_access: Mapping[str, frozenset[str]]) -> dict[str, Method]:
    """The methods of services by path. `extra_access` (by path) adds callers of RPCs that are not ours."""
    found = {}
    for service in services:
        for descriptor in Default().FindServiceByName(service).methods:
            path = f"/{service}/{descriptor.name}"
            found[path] = Method(
                path,
                callers_of(descriptor) | extra_access.get(path, frozenset()),
                "tenant_id" in descriptor.input_type.fields_by_name,
                is_batch(descriptor.input_type),
                descriptor.client_streaming or descriptor.server_streaming,
                max_request_bytes(descriptor),
            )
    return found


def callers_of(method: MethodDescriptor) -> frozenset[str]:
    """The callers that the method's access option names, in lower case, for example `edge`."""
    access = method.GetOptions().Extensions[access_pb2.access]
    return frozenset(access_pb2.Caller.Name(each).removeprefix("CALLER_").lower() for each in access.callers)


def max_request_bytes(method: MethodDescriptor) -> int:
    """How large a request may be by the method's contract; a batch, and what is not our contract, as the transport."""
    if is_batch(method.input_type) or not method.containing_service.full_name.startswith("parley."):
        return MAX_MESSAGE_BYTES
    return method.GetOptions().Extensions[access_pb2.max_request_bytes] or DEFAULT_REQUEST_BYTES


def is_batch(request: Descriptor) -> bool:
    """Whether a request carries items that are calls: each with a request and a context."""
    items = request.fields_by_name.get("items")
    return (
        items is not None
        and items.message_type is not None
        and {"request", "context"} <= set(items.message_type.fields_by_name)
    )
