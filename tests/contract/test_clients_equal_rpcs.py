"""Clients and contracts are equal sets: every RPC has a client method, and every client method is an RPC."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

import parley_client
from parley_client.blocking import BlockingConnection
from parley_client.methods import Client, Coalesced, Method, Stream

AnyMethod = Method[Any, Any]
GEN = Path(__file__).parents[2] / "gen"


def services() -> dict[str, ServiceDescriptor]:
    found = {}
    for path in sorted((GEN / "parley").rglob("*_pb2.py")):
        module = importlib.import_module(".".join(path.relative_to(GEN).with_suffix("").parts))
        found.update({service.full_name: service for service in module.DESCRIPTOR.services_by_name.values()})
    return found


def clients() -> dict[str, type[Client[Any]]]:
    for module in pkgutil.iter_modules(parley_client.__path__, "parley_client."):
        importlib.import_module(module.name)
    return {client.service: client for client in Client.__subclasses__()}


def methods(client: type[Client[Any]]) -> dict[str, AnyMethod]:
    return {method.rpc: method for method in vars(client).values() if isinstance(method, Method)}


def shared() -> Iterator[tuple[MethodDescriptor, AnyMethod, ServiceDescriptor]]:
    all_clients = clients()
    for name, service in services().items():
        declared = methods(all_clients[name]) if name in all_clients else {}
        for rpc in service.methods:
            if rpc.name in declared:
                yield rpc, declared[rpc.name], service


def test_every_service_has_a_client_and_every_client_a_service() -> None:
    assert set(clients()) == set(services())


@pytest.mark.parametrize("name", sorted(services()))
def test_every_rpc_has_a_method_and_every_method_is_an_rpc(name: str) -> None:
    assert set(methods(clients()[name])) == {rpc.name for rpc in services()[name].methods}


def test_methods_take_and_give_the_messages_of_their_rpc() -> None:
    for rpc, method, _ in shared():
        assert method.request.DESCRIPTOR is rpc.input_type, rpc.full_name
        assert method.response.DESCRIPTOR is rpc.output_type, rpc.full_name


def test_streams_are_streams_and_nothing_else_is() -> None:
    for rpc, method, _ in shared():
        assert isinstance(method, Stream) == rpc.server_streaming, rpc.full_name
        assert not rpc.client_streaming, f"{rpc.full_name}: there is no client for request streams yet"


def test_an_rpc_with_a_batch_twin_is_coalesced_into_it() -> None:
    coalesced = set()
    for rpc, method, service in shared():
        twin = service.methods_by_name.get(f"Batch{rpc.name}")
        assert isinstance(method, Coalesced) == (twin is not None), rpc.full_name
        if twin is not None:
            assert isinstance(method, Coalesced)
            assert method.batch.DESCRIPTOR is twin.input_type
            assert method.batch_response.DESCRIPTOR is twin.output_type
            coalesced.add(rpc.name)
    assert coalesced >= {"SubmitMessage", "GetContext", "SaveContext", "Reserve", "Commit", "SendMessage"}


def test_items_and_results_of_all_batches_look_alike() -> None:
    """The coalescing client fills `items` and reads `results` without knowing the RPC."""
    for rpc, method, _ in shared():
        if not isinstance(method, Coalesced):
            continue
        item = method.batch.DESCRIPTOR.fields_by_name["items"].message_type
        assert item.fields_by_name["request"].message_type is rpc.input_type
        assert item.fields_by_name["context"].message_type.full_name == "parley.common.v1.ItemContext"
        result = method.batch_response.DESCRIPTOR.fields_by_name["results"].message_type
        assert result.fields_by_name["response"].message_type is rpc.output_type
        assert result.fields_by_name["error"].message_type.full_name == "google.rpc.Status"


def test_blocking_clients_have_the_same_methods_and_call_the_same_rpcs() -> None:
    """A blocking client calls the RPC itself where the other one gathers calls for its Batch twin."""
    called: list[tuple[str, bool]] = []

    def unary(method: str, **_: Any) -> None:
        called.append((method, False))

    def stream(method: str, **_: Any) -> None:
        called.append((method, True))

    channel: Any = SimpleNamespace(unary_unary=unary, unary_stream=stream)
    connection = BlockingConnection(channel, "any", "token")
    for client in clients().values():
        for method in methods(client).values():
            getattr(client(connection), method.name)
    rpcs = [rpc for service in services().values() for rpc in service.methods]
    expected = [(f"/{rpc.containing_service.full_name}/{rpc.name}", rpc.server_streaming) for rpc in rpcs]
    assert sorted(called) == sorted(expected)
