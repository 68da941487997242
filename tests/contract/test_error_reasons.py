"""Every failure that a service raises has its reason in the contract."""

import ast
from collections.abc import Iterator
from pathlib import Path

from parley.common.v1 import error_reason_pb2

from services.edge.problems import BY_REASON

ROOT = Path(__file__).parents[2]
REASONS = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118

REASON_AT = {"ParleyError": 1, "not_found": 0, "DecisionError": 1, "Problem": 1}
"""Which argument of a call is the reason."""


def reasons_in(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The reasons that a module's calls give as literals."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            given = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
            if name in REASON_AT and len(node.args) > REASON_AT[name]:
                given.append(node.args[REASON_AT[name]])
            for argument in given:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and argument.value.isupper():
                    yield argument.value, node.lineno


def test_every_reason_raised_is_in_the_contract() -> None:
    unknown = []
    found = 0
    for path in sorted((ROOT / "services").rglob("*.py")):
        for reason, line in reasons_in(ast.parse(path.read_text())):
            found += 1
            if reason not in REASONS:
                unknown.append(f"{path.relative_to(ROOT)}:{line} {reason}")
    assert found > 10
    assert not unknown


def test_every_reason_is_documented_with_what_it_means_and_what_to_do() -> None:
    documented = {}
    for line in (ROOT / "docs" / "reference" / "errors.md").read_text().splitlines():
        if line.startswith("| `"):
            reason, meaning, to_do = line.strip("| ").split(" | ")
            documented[reason.strip("`")] = meaning, to_do
    assert documented.keys() == REASONS
    assert all(len(meaning) > 20 and len(to_do) > 20 for meaning, to_do in documented.values())


def test_every_reason_that_the_edge_translates_is_in_the_contract() -> None:
    assert set(BY_REASON) <= REASONS


def test_reasons_are_found_in_all_their_forms() -> None:
    source = """
raise ParleyError(Kind.INVALID, "A", "message")
raise errors.ParleyError(Kind.INVALID, reason="B", message="message")
raise not_found("C", "bot", "bot_id", "x")
"""
    assert [reason for reason, _ in reasons_in(ast.parse(source))] == ["A", "B", "C"]
