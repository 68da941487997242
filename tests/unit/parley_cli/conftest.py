"""A stack in this process that answers the command line as it is told."""

import fcntl
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from typer.testing import CliRunner, Result

from parley.delivery.v1 import channel_pb2, channel_pb2_grpc, delivery_pb2, delivery_pb2_grpc
from parley.dialog.v1 import bot_pb2_grpc, dialog_pb2, dialog_pb2_grpc, order_pb2_grpc, tenant_pb2_grpc
from parley.limits.v1 import limits_pb2_grpc
from parley.telemetry.v1 import telemetry_pb2_grpc

from parley_cli.main import app

SERVICES = ("dialog", "delivery", "limits", "telemetry")


class Scripted:
    """Answers each RPC with what stands under its name, and remembers the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: dict[str, list[Any]] = {}
        self.tokens: set[str] = set()

    def answer(self, rpc: str, request: Any, context: Any) -> Any:
        self.requests.setdefault(rpc, []).append(request)
        self.tokens |= {value for name, value in context.invocation_metadata() if name == "authorization"}
        answer = self.answers.get(rpc)
        if isinstance(answer, list):  # one answer after the other
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, status_pb2.Status):
            details = (("grpc-status-details-bin", answer.SerializeToString()),)
            context.set_trailing_metadata(details)
            code = next(code for code in grpc.StatusCode if code.value[0] == answer.code)
            context.abort(code, answer.message)
        if answer is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, rpc)
        return answer

    def one(self, rpc: str) -> Any:
        """The only request of an RPC."""
        (request,) = self.requests[rpc]
        return request


def servicer(base: type, scripted: Scripted) -> Any:
    """An implementation of a generated servicer that does what the script says."""

    def method(rpc: str) -> Any:
        return lambda self, request, context: scripted.answer(rpc, request, context)

    def stream(self: Any, request: Any, context: Any) -> Iterator[Any]:
        yield from scripted.answer("Chat", request, context)

    methods = {name: method(name) for name in vars(base) if name[0].isupper()}
    return type("Fake", (base,), methods | ({"Chat": stream} if "Chat" in methods else {}))()


def failure(code: grpc.StatusCode, reason: str, message: str, **fields: str) -> status_pb2.Status:
    """A status as services make them."""
    status = status_pb2.Status(code=code.value[0], message=message)
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=name, description=text) for name, text in fields.items()
    ]
    info = error_details_pb2.ErrorInfo(reason=f"ERROR_REASON_{reason}", domain="parley")
    for detail in (info, error_details_pb2.BadRequest(field_violations=violations)):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, without a stack."""
    monkeypatch.setenv("PARLEY_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def stack(home: Path, scripted: Scripted) -> Iterator[Scripted]:
    """A stack that seems to run: its lock is held, its state is written, its servers answer."""
    server = grpc.server(ThreadPoolExecutor(4))
    for module, names in (
        (bot_pb2_grpc, ("BotService",)),
        (dialog_pb2_grpc, ("DialogService",)),
        (order_pb2_grpc, ("OrderService",)),
        (tenant_pb2_grpc, ("TenantService",)),
        (limits_pb2_grpc, ("LimitsService",)),
        (channel_pb2_grpc, ("ChannelService",)),
        (delivery_pb2_grpc, ("DeliveryService",)),
        (telemetry_pb2_grpc, ("TelemetryService",)),
    ):
        for name in names:
            fake = servicer(getattr(module, f"{name}Servicer"), scripted)
            getattr(module, f"add_{name}Servicer_to_server")(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    state = {
        "state": "ready",
        "pid": os.getpid(),
        "home": str(home),
        "urls": {"edge": "http://127.0.0.1:8080"},
        "addresses": dict.fromkeys(SERVICES, f"127.0.0.1:{port}"),
        "processes": [
            {"name": "edge", "address": "127.0.0.1:8080", "pid": 7, "healthy": True, "restarts": 0, "log": "edge.log"}
        ],
    }
    (home / "stack.json").write_text(json.dumps(state))
    (home / "operator.token").write_text("t0ken")
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield scripted
    os.close(lock)
    server.stop(None).wait()


def parley(*arguments: str, stdin: str | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, list(arguments), input=stdin)


def document(*arguments: str, stdin: str | None = None) -> Any:
    """What a command prints with `--json`, which must be all that it prints."""
    result = parley(*arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def message(**fields: Any) -> dialog_pb2.Message:
    """A message that was answered."""
    made = dialog_pb2.Message(
        message_id="019aa4d0-0000-7000-8000-000000000001",
        tenant_id="demo",
        channel_id="demo-chat2desk",
        conversation_id="5f0d7a3e-5d0c-5c7e-9f53-0d6c52a8c8f1",
        state=dialog_pb2.MESSAGE_STATE_COMPLETED,
        attempts=1,
        trace_id="0" * 31 + "1",
    )
    made.received_at.FromMilliseconds(1_000_000)
    made.started_at.FromMilliseconds(1_000_040)
    made.generated_at.FromMilliseconds(1_000_100)
    made.completed_at.FromMilliseconds(1_000_120)
    made.usage.input_tokens = 7
    for name, value in fields.items():
        setattr(made, name, value)
    return made


ID = message().message_id


def channel(channel_id: str, provider: channel_pb2.Provider.ValueType, bot: str = "water") -> channel_pb2.Channel:
    return channel_pb2.Channel(
        tenant_id="demo", channel_id=channel_id, provider=provider, bot_id=bot, enabled=True, revision=1
    )


def dead_delivery(delivery_id: str, at: float) -> delivery_pb2.Delivery:
    made = delivery_pb2.Delivery(delivery_id=delivery_id, channel_id="shop")
    made.created_at.FromMilliseconds(int(at * 1000))
    made.content.text = "Ваш заказ"
    part = made.parts.add(state=delivery_pb2.PART_STATE_DEAD, text="Ваш заказ")
    part.attempts.add(number=50, http_status=403, error="HTTP 403: blocked")
    return made
