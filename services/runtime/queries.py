"""Named SQL: each statement stands in a `.sql` file under `-- name: <name>`, with its description."""

import re
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)[ \t]*\n", re.MULTILINE)


def load_queries(path: Path, **words: str) -> dict[str, str]:
    """The statements of a file by name; `words` are replaced everywhere (`{schema}` by `schema="dialog"`).

    Comments are left out, so that a statement is as short on the wire as it can be.
    """
    text = path.read_text()
    for word, value in words.items():
        text = text.replace("{" + word + "}", value)
    parts = _NAME.split(text)[1:]
    return {name: _bare(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def tenants_in(*tables: str) -> dict[str, str]:
    """For each `<schema>.<table>` a word `tenants_in_<table>`, which stands for a query of all tenants in it."""
    path = Path(__file__).with_name("tenants_in.sql")
    return {f"tenants_in_{table.rpartition('.')[2]}": load_queries(path, table=table)["tenants_in"] for table in tables}


def _bare(sql: str) -> str:
    lines = (line for line in sql.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(line for line in lines if line.strip()).strip().rstrip(";")
