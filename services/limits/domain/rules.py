"""Rules, and whom they count."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from services.kernel.errors import invalid_field
from services.limits.domain.algorithms.base import Algorithm

EVERY_TENANT = "*"
UNKNOWN_ZONE = "UTC"
"""The time zone of a tenant until somebody names another."""
MOST_RULES = 8
"""Rules that may match one resource of a tenant; a reservation names them all."""


class Scope(IntEnum):
    """Whose use a rule counts; the numbers are those of the contract."""

    TENANT = 1
    BOT = 2
    CHANNEL = 3
    CONTACT = 4
    CONVERSATION = 5


MOST_SPECIFIC_FIRST = (Scope.CONVERSATION, Scope.CONTACT, Scope.CHANNEL, Scope.BOT)


class FailureMode(IntEnum):
    """What to do while Redis is away; the numbers are those of the contract."""

    OPEN = 1
    CLOSED = 2
    POSTGRES = 3


class Selector(NamedTuple):
    """Whom an override is for."""

    scope: Scope
    id: str


class Override(NamedTuple):
    """Another limit for one of the subjects, and for rates also another length in milliseconds."""

    limit: int
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit as configured. `overrides` are those that the tenant who asks has made."""

    tenant_id: str
    rule_id: str
    resource: str
    scope: Scope
    algorithm: Algorithm
    failure_mode: FailureMode
    shadow: bool = False
    overrides: Mapping[Selector, Override] = field(default_factory=dict)
    updated_at: datetime | None = None

    def override_for(self, subject: "Subject") -> Override | None:
        """Returns the most specific one that applies."""
        for scope in MOST_SPECIFIC_FIRST:
            found = self.overrides.get(Selector(scope, subject.value(scope)))
            if found is not None:
                return found
        return None

    def algorithm_for(self, subject: "Subject") -> Algorithm:
        """Returns the algorithm after overrides."""
        override = self.override_for(subject) if self.overrides else None
        return self.algorithm if override is None else self.algorithm.overridden(*override)

    def value_of(self, subject: "Subject") -> str:
        """Returns what the rule counts a subject by. Raises INVALID_FIELD when the subject does not say it."""
        value = subject.value(self.scope)
        if not value:
            name = f"subject.{self.scope.name.lower()}_id"
            raise invalid_field(name, "a rule for this resource counts by it, so it must be set")
        return value


class Subject(NamedTuple):
    """Whose units are counted."""

    bot_id: str = ""
    channel_id: str = ""
    contact_id: str = ""
    conversation_id: str = ""

    def value(self, scope: Scope) -> str:
        """Returns what a rule of this scope counts the subject by; empty if the subject does not name it."""
        if scope is Scope.TENANT:
            return EVERY_TENANT
        return self[scope - Scope.BOT]


class Rules:
    """All rules at one moment. A tenant's own rule replaces the one of the same id that holds for every tenant."""

    def __init__(
        self,
        rules: Iterable[Rule] = (),
        overrides: Mapping[tuple[str, str], Mapping[Selector, Override]] | None = None,
        zones: Mapping[str, str] | None = None,
    ) -> None:
        """`overrides` by tenant and rule id: a tenant's overrides apply to whichever rule of that id it has. `zones` by
        tenant."""
        self._overrides = overrides or {}
        self._zones = dict(zones or {})
        self._by_tenant: dict[str, dict[str, Rule]] = {}
        for rule in rules:
            self._by_tenant.setdefault(rule.tenant_id, {})[rule.rule_id] = rule
        self._of_tenant: dict[str, dict[str, Rule]] = {}
        self._matching: dict[tuple[str, str], tuple[Rule, ...]] = {}

    def of(self, tenant_id: str) -> dict[str, Rule]:
        """Returns the rules that hold for a tenant, by id, ordered by id."""
        if tenant_id not in self._of_tenant:
            merged = self._by_tenant.get(EVERY_TENANT, {}) | self._by_tenant.get(tenant_id, {})
            self._of_tenant[tenant_id] = {
                rule_id: replace(
                    merged[rule_id],
                    algorithm=merged[rule_id].algorithm.in_zone(self.zone_of(tenant_id) or UNKNOWN_ZONE),
                    overrides=self._overrides.get((tenant_id, rule_id), {}),
                )
                for rule_id in sorted(merged)
            }
        return self._of_tenant[tenant_id]

    def zone_of(self, tenant_id: str) -> str:
        """Returns the tenant's time zone; empty if nobody has named it."""
        return self._zones.get(tenant_id, "")

    def set_zone(self, tenant_id: str, time_zone: str) -> None:
        """Begins the tenant's days in this time zone from now on."""
        self._zones[tenant_id] = time_zone
        self._of_tenant.pop(tenant_id, None)
        for key in [key for key in self._matching if key[0] == tenant_id]:
            del self._matching[key]

    def matching(self, tenant_id: str, resource: str) -> tuple[Rule, ...]:
        """Returns the rules that hold for a tenant's use of a resource."""
        key = (tenant_id, resource)
        if key not in self._matching:
            if len(self._matching) > 10_000:  # resources are the caller's words
                self._matching.clear()
            self._matching[key] = tuple(rule for rule in self.of(tenant_id).values() if rule.resource == resource)
        return self._matching[key]
