"""Loads SQL from files. Each statement follows a line `-- name: <name>`, with its description as a comment."""

import re
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)[ \t]*\n", re.MULTILINE)


def load_queries(path: Path, **words: str) -> dict[str, str]:
    """Returns the statements of a file by name. `words` are replaced everywhere, `{schema}` by `schema="dialog"`.

    Comments are left out, so that statements are short on the wire.
    """
    text = path.read_text()
    for word, value in words.items():
        text = text.replace("{" + word + "}", value)
    parts = _NAME.split(text)[1:]
    return {name: _bare(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def tenants_in(*tables: str) -> dict[str, str]:
    """Returns a word `tenants_in_<table>` for each `<schema>.<table>`: a query of all tenants in it."""
    path = Path(__file__).with_name("tenants_in.sql")
    return {f"tenants_in_{table.rpartition('.')[2]}": load_queries(path, table=table)["tenants_in"] for table in tables}


def _bare(sql: str) -> str:
    lines = (line for line in sql.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(line for line in lines if line.strip()).strip().rstrip(";")
