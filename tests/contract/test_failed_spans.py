"""SEC-4: OpenTelemetry's SDK would write a failure's own words into a span, and with them what a row or person says."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted([*ROOT.glob("services/**/*.py"), *ROOT.glob("clients/parley_client/**/*.py")])
TELL = ("record_exception", "set_status_on_exception")


def own_words(tree: ast.AST) -> list[int]:
    """The lines that leave it to the SDK to tell a failure."""
    entered = [item.context_expr for node in ast.walk(tree) if isinstance(node, ast.With) for item in node.items]
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        silent = {
            each.arg for each in node.keywords if isinstance(each.value, ast.Constant) and each.value.value is False
        }
        tells = node.func.attr in {"use_span", "start_as_current_span"} or (
            node.func.attr == "start_span" and node in entered
        )
        if node.func.attr == "record_exception" or (tells and not silent.issuperset(TELL)):
            found.append(node.lineno)
    return found


def test_failures_are_told_by_us() -> None:
    """`services.runtime.tracing.spans.current` does so."""
    found = {str(path.relative_to(ROOT)): own_words(ast.parse(path.read_text())) for path in MODULES}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "code",
    [
        "with tracer.start_as_current_span('x'): pass",
        "with trace.use_span(span, record_exception=False): pass",
        "with tracer.start_span('x') as span: pass",
        "span.record_exception(error)",
    ],
)
def test_each_way_to_leave_it_to_the_sdk_is_found(code: str) -> None:
    assert own_words(ast.parse(code)) == [1]
