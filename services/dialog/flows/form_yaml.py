"""Reads the YAML of a form: strings, lists and mappings in one pass, within bounds, with the line of each key."""

from collections.abc import Iterator
from typing import Any

import yaml

from services.kernel.errors import FieldViolation, Kind, ParleyError

LARGEST = 65536
"""Characters of a definition at most."""
DEEPEST = 16
MOST_VALUES = 5000
"""Keys and values of a definition at most; the forms that come with Parley have some 200."""

_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Makes strings only: `no` is a word here, and no tag makes an object."""


class Read:
    """What a definition holds, and the lines of its keys."""

    def __init__(self, definition: str) -> None:
        """Raises ParleyError INVALID_FORM for what is no YAML, too large, or could grow when it is read."""
        self._lines: dict[str, int] = {}
        self._count = 0
        if len(definition) > LARGEST:
            raise invalid("definition_yaml", f"longer than {LARGEST} characters")
        try:
            self.content = self._document(yaml.parse(definition, _Loader))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"line {mark.line + 1}" if mark else "definition_yaml"
            raise invalid(where, str(getattr(error, "problem", None) or error)) from error

    def line_of(self, key: str) -> int:
        """The line of a key, for example `slots[0].pattern`, or of what it would stand in; 1 when nothing is there."""
        while key and key not in self._lines:
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return self._lines.get(key, 1)

    def _document(self, events: Iterator[yaml.Event]) -> Any:
        content: Any = None
        found = False
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if found:
                    raise _at(event, "a second document begins; a form is one")
                found = True
            elif isinstance(event, yaml.NodeEvent):
                content = self._node(event, events, "", 1)
        if not found:
            raise invalid("definition_yaml", "is empty")
        return content

    def _node(self, event: yaml.NodeEvent, events: Iterator[yaml.Event], path: str, depth: int) -> Any:
        self._count += 1
        if self._count > MOST_VALUES:
            raise _at(event, f"there are more than {MOST_VALUES} keys and values")
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise _at(event, "anchors and aliases are not supported")
        if isinstance(event, yaml.ScalarEvent):
            return event.value
        if depth > DEEPEST:
            raise _at(event, "nested too deep")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, path, depth)
        return self._mapping(events, path, depth)

    def _sequence(self, events: Iterator[yaml.Event], path: str, depth: int) -> list[Any]:
        items: list[Any] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            assert isinstance(event, yaml.NodeEvent)
            at = f"{path}[{len(items)}]"
            self._lines[at] = _line(event)
            items.append(self._node(event, events, at, depth + 1))
        return items

    def _mapping(self, events: Iterator[yaml.Event], path: str, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            assert isinstance(event, yaml.NodeEvent)
            key, line = self._node(event, events, path, depth + 1), _line(event)
            if not isinstance(key, str):
                raise _at(event, "a key is a word")
            name = f"{path}.{key}".lstrip(".")
            if key in made:
                raise invalid(name[:_LONGEST_KEY], f"given twice, again in line {line}")
            self._lines[name] = line
            value = next(events)
            assert isinstance(value, yaml.NodeEvent)
            made[key] = self._node(value, events, name, depth + 1)
        return made


_LONGEST_KEY = 200


def invalid(key: str, problem: str, violations: tuple[FieldViolation, ...] = ()) -> ParleyError:
    """INVALID_FORM; `key` names a key or a line."""
    fields = violations or (FieldViolation(key, problem),)
    return ParleyError(Kind.INVALID, "INVALID_FORM", f"{key}: {problem}", fields, {"field": key})


def _at(event: yaml.Event, problem: str) -> ParleyError:
    return invalid(f"line {_line(event)}", problem)


def _line(event: yaml.Event) -> int:
    mark: Any = event.start_mark
    return int(mark.line) + 1
