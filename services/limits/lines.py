"""From a request and the rules to the lines that are counted. Pure."""

from services.limits.days import Days
from services.limits.domain import DailyQuota, Rule, Rules, Subject, missing_subject
from services.limits.ports import Ask
from services.limits.tokens import Body, Line, encode_body, request_digest, reservation_key

TTL = 300_000
"""How long units are held without a Commit, unless the caller says otherwise; milliseconds."""


def line_of(rule: Rule, subject: Subject, value: str, days: Days, now: int, ttl: int, lasts: int = 0) -> Line:
    """What a rule counts for a subject at `now` (milliseconds since 1970), after overrides."""
    override = rule.override_for(subject) if rule.overrides else None
    algorithm = rule.algorithm
    limit = algorithm.limit if override is None else override.limit
    if isinstance(algorithm, DailyQuota):
        day = days.at(algorithm.time_zone, now)
        return Line(rule.rule_id, value, limit, rule.shadow, day.date.isoformat(), day.ends, 0)
    window = algorithm.window if override is None or override.window is None else override.window
    return Line(rule.rule_id, value, limit, rule.shadow, "", 0, window, ttl < window and not lasts, lasts)


def ask_of(
    rules: Rules,
    days: Days,
    now: int,
    *,
    tenant_id: str,
    request_id: str,
    resource: str,
    subject: Subject,
    units: int,
    ttl: int = TTL,
    max_wait: int = 0,
    lasts: int = 0,
) -> Ask | None:
    """None when no rule matches. Raises INVALID_FIELD when the subject lacks what a rule counts by."""
    matching = rules.matching(tenant_id, resource)
    if not matching:
        return None
    if units and any(not subject.value(rule.scope) for rule in matching):
        raise missing_subject(next(rule.scope for rule in matching if not subject.value(rule.scope)))
    counted = tuple(rule for rule in matching if subject.value(rule.scope))
    lines = tuple(line_of(rule, subject, subject.value(rule.scope), days, now, ttl, lasts) for rule in counted)
    key = reservation_key(tenant_id, request_id)
    digest = request_digest(resource, subject, units)
    body = encode_body(Body(tenant_id, key, digest, units, lines))
    return Ask(tenant_id, key, digest, body, units, ttl, max_wait, counted, lines)


def usage_asks(rules: Rules, days: Days, now: int, *, tenant_id: str, resource: str, subject: Subject) -> list[Ask]:
    """One ask for nothing per resource that has rules for the subject; `resource` empty for all."""
    resources = {rule.resource for rule in rules.of(tenant_id).values()}
    wanted = sorted(resources & {resource} if resource else resources)
    asks = [
        ask_of(rules, days, now, tenant_id=tenant_id, request_id="", resource=each, subject=subject, units=0)
        for each in wanted
    ]
    return [ask for ask in asks if ask is not None and ask.lines]


def bare_value(rule: Rule, subject: Subject) -> str:
    """What a rule counts a subject by. Raises INVALID_FIELD."""
    value = subject.value(rule.scope)
    if not value:
        raise missing_subject(rule.scope)
    return value
