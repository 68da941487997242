"""What the edge says of itself: `/`, `/openapi.json` and `/docs`."""

import asyncio
import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from parley_client.tokens import TokenSource
from tests.integration.edge.conftest import SECRET, Edge, channel


async def test_the_edge_says_what_it_is(edge: Edge) -> None:
    async with edge.http.get(edge.url + "/") as response:
        assert (await response.json())["name"] == "parley"
    async with edge.http.get(edge.url + "/", headers={"accept": "text/html"}) as response:
        assert "<h1>Parley</h1>" in await response.text()
    async with edge.http.get(edge.url + "/openapi.json") as response:
        document = await response.json()
    assert {"/webhooks/chat2desk/{channel_id}", "/v1/chat/send", "/v1/chat/stream"} <= document["paths"].keys()
    schemas = document["components"]["schemas"].keys()
    assert set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document))) == schemas


async def test_the_page_of_documentation_shows_fields_authentication_and_errors_and_loads_nothing(edge: Edge) -> None:
    async with edge.http.get(edge.url + "/docs") as response:
        page = await response.text()
        assert "default-src 'none'" in response.headers["content-security-policy"]
    for shown in (
        "X-API-KEY",
        "X-Webhook-Secret",
        "telegram_id",
        "client.phone",
        "attachments[].link",
        "INVALID_SIGNATURE",
    ):
        assert f">{shown}<" in page
    assert "<script" not in page and not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    assert f"curl -sS {edge.url}/v1/chat/send" in page
    for evil in ("x/'; reboot #", 'x"><script>', "a b"):
        async with edge.http.get(edge.url + "/docs", headers={"Host": evil}) as response:
            assert "curl -sS http://127.0.0.1:8080/v1/chat/send" in await response.text()


async def test_every_answer_of_the_document_has_an_example_and_every_field_a_description(edge: Edge) -> None:
    async with edge.http.get(edge.url + "/openapi.json") as response:
        document = await response.json()
    schemes = document["components"]["securitySchemes"]
    for methods in document["paths"].values():
        for operation in methods.values():
            assert all(scheme in schemes for one in operation["security"] for scheme in one)
            for status, answer in operation["responses"].items():
                ((kind, content),) = answer["content"].items()
                assert content["example"] and (kind == "application/problem+json") == ("reason" in content["example"])
                if kind == "application/problem+json":
                    assert content["example"]["status"] == int(status)
    for schema in document["components"]["schemas"].values():
        assert all("description" in field or "enum" in field for field in schema["properties"].values())


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
async def test_the_commands_of_the_documentation_work_when_pasted(
    edge: Edge, operator_tokens: TokenSource, tmp_path: Path
) -> None:
    edge.delivery.channels["demo-chat2desk"] = channel("demo-chat2desk")
    (tmp_path / "demo.json").write_text(json.dumps({"api": {"key": "good"}, "chat2desk": {"secret": SECRET}}))
    (tmp_path / "operator.token").write_text(operator_tokens.token("edge"))
    async with edge.http.get(edge.url + "/docs") as response:
        page = await response.text()
    commands = [html.unescape(command) for command in re.findall(r"Try it</h4><pre>(.*?)</pre>", page, re.DOTALL)]
    assert len(commands) == 7
    for command in commands:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", command, stdout=subprocess.PIPE, env={**os.environ, "PARLEY_HOME": str(tmp_path)}
        )
        said = (await process.communicate())[0].decode()
        assert process.returncode == 0 and said and "reason" not in said, command + said
    assert [chat.content.text for chat in edge.dialog.chats] and len(edge.dialog.submitted) >= 1
