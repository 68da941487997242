import re
from pathlib import Path

import pytest

import parley_client
from parley_client.methods import Client

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", ["ask.py", "bots.py"])
def test_the_page_shows_the_scripts_as_they_are(name: str) -> None:
    shown: list[str] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/client.md").read_text(), re.DOTALL)
    assert (ROOT / "clients/examples" / name).read_text().partition("\n\n")[2] in shown


def test_the_package_exports_what_it_names_and_every_client() -> None:
    assert all(hasattr(parley_client, name) for name in parley_client.__all__)
    named = {client.__name__ for client in Client.__subclasses__()}
    assert named <= set(parley_client.__all__)
