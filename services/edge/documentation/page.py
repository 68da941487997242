"""Renders the OpenAPI document as a page: fields, authentication, answers, and commands that work when pasted."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from services.edge.documentation.openapi import DOCUMENT
from services.edge.providers.registry import PROVIDERS


def _demo(variable: str, name: str, field: str) -> str:
    """A shell command that sets a variable to a value of the demo tenant."""
    read = f"""python3 -c 'import json, sys; print(json.load(sys.stdin)["{name}"]["{field}"])'"""
    return f'{variable}=$({read} < "${{PARLEY_HOME:-.parley}}/demo.json")'


_KEY = _demo("KEY", "api", "key")
_TYPE = "-H 'content-type: application/json'"
COMMANDS = {
    "/v1/chat/send": [_KEY, 'curl -sS {url} -H "X-API-KEY: $KEY" ' + _TYPE + " \\\n  -d '{body}'"],
    "/v1/chat/stream": [_KEY, 'curl -sSN {url} -H "X-API-KEY: $KEY" ' + _TYPE + " \\\n  -d '{body}'"],
    "/health": ['curl -sS {url} -H "authorization: Bearer $(cat "${PARLEY_HOME:-.parley}/operator.token")"'],
}
"""Commands that try a path on a local stack, when run in the repository's folder."""


def commands(path: str, operation: Mapping[str, Any], base: str) -> str:
    """The commands to paste into a shell. A webhook's id is the time, so pasting it again makes no duplicate."""
    url, body, lines = base + path, "", COMMANDS.get(path, ["curl -sS {url}"])
    if "requestBody" in operation:
        body = json.dumps(_of_json(operation["requestBody"])["example"], ensure_ascii=False)
    if path.startswith(("/webhook/", "/webhooks/")):
        name = path.split("/")[2]
        said = PROVIDERS[name].documentation
        url = url.replace("{channel_id}", f"demo-{name}")
        body = body.replace(f'"{said.id_field}": {said.example[said.id_field]}', f"\"{said.id_field}\": '$(date +%s)'")
        lines = [_demo("SECRET", name, "secret"), f"{said.curl} {_TYPE} \\\n  -d '{{body}}'"]
    return "\n".join(line.replace("{url}", url).replace("{body}", body) for line in lines)


def page(base: str) -> str:
    """The page's body. `base` is the address of this edge, such as `http://127.0.0.1:8080`."""
    operations = [
        (path, method, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]
    links = "".join(f"<li><a href='#{_anchor(path)}'><code>{escape(path)}</code></a>" for path, _, _ in operations)
    return (
        f"<p>{_text(DOCUMENT['info']['description'])} For machines: <a href=/openapi.json>openapi.json</a>.</p>"
        f"<nav><ul>{links}</ul></nav><h2>Authentication</h2>{_schemes()}"
        + "".join(_section(path, method, operation, base) for path, method, operation in operations)
        + "<section id=problem><h3>Errors</h3><p>Each is <code>application/problem+json</code>.</p>"
        f"{_fields(_resolve({'$ref': '#/components/schemas/Problem'}))}</section>"
    )


def _schemes() -> str:
    rows = []
    for scheme in DOCUMENT["components"]["securitySchemes"].values():
        place = "header" if scheme["type"] == "http" else {"query": "query parameter"}.get(scheme["in"], scheme["in"])
        name = "Authorization: Bearer" if scheme["type"] == "http" else scheme["name"]
        rows.append([f"<code>{escape(name)}</code>", place, _text(scheme["description"])])
    return _table(["name", "where", ""], rows)


def _section(path: str, method: str, operation: Mapping[str, Any], base: str) -> str:
    title = f"<span class=method>{method.upper()}</span> <code>{escape(path)}</code>"
    parts = [
        f"<section id='{_anchor(path)}'><h3>{title}</h3>",
        f"<p>{_text(operation['summary'])} {_text(operation.get('description', ''))}</p>",
        f"<p class=auth>Authentication: {_auth(operation['security'])}</p>",
    ]
    if operation.get("parameters"):
        rows = [
            [
                f"<code>{escape(one['name'])}</code>",
                one["in"] + (", required" if one.get("required") else ""),
                _text(one["description"]),
            ]
            for one in operation["parameters"]
        ]
        parts.append("<h4>Parameters</h4>" + _table(["name", "where", ""], rows))
    if "requestBody" in operation:
        parts.append("<h4>Body</h4>" + _fields(_resolve(_of_json(operation["requestBody"])["schema"])))
    parts.append(f"<h4>Try it</h4><pre>{escape(commands(path, operation, base))}</pre><h4>Answers</h4>")
    parts += [_answer(status, answer) for status, answer in operation["responses"].items()]
    return "".join(parts) + "</section>"


def _answer(status: str, answer: Mapping[str, Any]) -> str:
    ((kind, content),) = answer["content"].items()
    example, schema = content.get("example"), content["schema"]
    shown = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False, indent=2)
    reason = f" <code>{escape(example['reason'])}</code>" if status >= "400" and "reason" in example else ""
    fields = _fields(_resolve(schema)) if "$ref" in schema and not reason else ""
    return (
        f"<details{' open' if status == '200' else ''}><summary><b>{status}</b>{reason} {_text(answer['description'])}"
        f"</summary><p><code>{kind}</code></p><pre>{escape(shown)}</pre>{fields}</details>"
    )


def _auth(security: list[dict[str, Any]]) -> str:
    schemes = DOCUMENT["components"]["securitySchemes"]
    names = [
        f"<code>{escape(schemes[name].get('name', 'Authorization: Bearer'))}</code>" if one else "none"
        for one in security
        for name in (one or [""])
    ]
    return " or ".join(names) if names else "none"


def _fields(schema: Mapping[str, Any]) -> str:
    rows = [
        [f"<code>{escape(name)}</code>", escape(kind) + (", required" if required else ""), _text(description)]
        for name, kind, required, description in _walk(schema, "")
    ]
    return _table(["field", "type", ""], rows)


def _walk(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, bool, str]]:
    for name, field in schema.get("properties", {}).items():
        yield prefix + name, _kind(field), name in schema.get("required", ()), _described(field)
        for form in _forms(field):
            yield from _walk(form, f"{prefix}{name}.")
            yield from _walk(_resolve(form.get("items", {})), f"{prefix}{name}[].")


def _forms(field: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The alternatives that a field may be."""
    return [_resolve(form) for form in field.get("anyOf", [field])]


def _kind(field: Mapping[str, Any]) -> str:
    kinds = [form.get("type", "any") for form in _forms(field)]
    return " or ".join(kind for each in kinds for kind in (each if isinstance(each, list) else [each]))


def _described(field: Mapping[str, Any]) -> str:
    words = field.get("enum") or field.get("examples")
    known = ", ".join(f"`{word}`" for word in words) if words else ""
    longest = f"At most {field['maxLength']:,} characters." if "maxLength" in field else ""
    parts = (field.get("description", ""), f"{'One of' if 'enum' in field else 'Such as'} {known}." if known else "")
    return " ".join(part for part in (*parts, longest) if part)


def _of_json(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    content: Mapping[str, Any] = holder["content"]["application/json"]
    return content


def _resolve(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference names, or the schema itself."""
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _table(titles: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>"


def _text(text: str) -> str:
    """Escapes a text, and shows as code what stands between backquotes."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _anchor(path: str) -> str:
    return "-".join(part.strip("{}") for part in path.split("/") if part)
