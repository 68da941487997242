"""What a thief of a database would find in it."""

import asyncpg


async def tables_with(text: str, database: "asyncpg.Pool[asyncpg.Record]", schema: str) -> set[str]:
    """The tables of a schema in which a text stands somewhere in clear, in a text or in bytes."""
    names = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    found = set()
    for (name,) in names:
        columns = await database.fetch(
            "SELECT column_name::text, data_type = 'bytea' FROM information_schema.columns"
            " WHERE table_schema = $1 AND table_name = $2",
            schema,
            name,
        )
        tests = [
            f'position($1::bytea IN "{column}") > 0'
            if binary
            else f"position($1::bytea IN convert_to(\"{column}\"::text, 'UTF8')) > 0"
            for column, binary in columns
        ]
        query = f'SELECT EXISTS (SELECT FROM "{schema}"."{name}" WHERE {" OR ".join(tests)})'
        if await database.fetchval(query, text.encode()):
            found.add(name)
    return found
