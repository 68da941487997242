"""Every RPC says who may use it."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from parley.common.v1 import access_pb2

from services.runtime.methods import callers_of, is_batch, methods_of

GEN = Path(__file__).parents[2] / "gen"


def services() -> Iterator[ServiceDescriptor]:
    for path in sorted((GEN / "parley").rglob("*_pb2.py")):
        module = importlib.import_module(".".join(path.relative_to(GEN).with_suffix("").parts))
        yield from module.DESCRIPTOR.services_by_name.values()


METHODS: list[MethodDescriptor] = [method for service in services() for method in service.methods]
BY_NAME = {method.full_name: method for method in METHODS}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_an_rpc_names_its_callers(method: MethodDescriptor) -> None:
    known = {name.removeprefix("CALLER_").lower() for name in access_pb2.Caller.keys()} - {"unspecified"}  # noqa: SIM118
    assert callers_of(method)
    assert callers_of(method) <= known


@pytest.mark.parametrize(
    "batch", [each for each in METHODS if is_batch(each.input_type)], ids=lambda method: method.full_name
)
def test_a_batch_is_open_to_the_callers_of_its_single_twin(batch: MethodDescriptor) -> None:
    single = BY_NAME[f"{batch.containing_service.full_name}.{batch.name.removeprefix('Batch')}"]
    assert callers_of(batch) == callers_of(single)
    item = batch.input_type.fields_by_name["items"].message_type
    result = batch.output_type.fields_by_name["results"].message_type
    assert item is not None
    assert result is not None
    assert item.fields_by_name["request"].message_type is single.input_type
    assert result.fields_by_name["response"].message_type is single.output_type


def test_what_a_server_reads_of_a_method_is_what_its_contract_says() -> None:
    methods = methods_of(["parley.dialog.v1.DialogService"], {})
    submit = methods["/parley.dialog.v1.DialogService/SubmitMessage"]
    batch = methods["/parley.dialog.v1.DialogService/BatchSubmitMessage"]
    chat = methods["/parley.dialog.v1.DialogService/Chat"]
    assert (submit.has_tenant, submit.is_batch, submit.is_stream) == (True, False, False)
    assert (batch.has_tenant, batch.is_batch, batch.is_stream) == (False, True, False)
    assert (chat.has_tenant, chat.is_stream) == (True, True)
    assert "edge" in submit.callers


def test_callers_of_foreign_rpcs_are_added_by_path() -> None:
    path = "/parley.limits.v1.LimitsService/Reserve"
    methods = methods_of(["parley.limits.v1.LimitsService"], {path: frozenset({"console"})})
    assert methods[path].callers >= {"console", "dialog"}
