"""Changes rules for operators. Each change happens once per request id, and reaches every process within a second."""

from collections.abc import Awaitable, Callable

from google.protobuf.message import Message

from parley.limits.v1 import limits_pb2 as pb

from services.kernel.errors import invalid_field
from services.limits.convert import rules as convert
from services.limits.ports import Response, RuleChanges, RuleStore
from services.limits.usecases.rulebook import RuleBook
from services.runtime import pages

_METHOD = "/parley.limits.v1.LimitsService/"
_PAGE = 100


class Administration:
    """Changes rules and overrides."""

    def __init__(self, store: RuleStore, book: RuleBook) -> None:
        self._store = store
        self._book = book

    async def create(self, request: pb.CreateRuleRequest) -> pb.CreateRuleResponse:
        if request.rule.tenant_id != request.tenant_id:
            raise invalid_field("rule.tenant_id", "must be the request's tenant_id")
        rule = convert.rule_from(request.rule)

        async def work(changes: RuleChanges) -> pb.CreateRuleResponse:
            return pb.CreateRuleResponse(rule=convert.rule_to(await changes.create(rule)))

        return await self._once(request, pb.CreateRuleResponse, "CreateRule", work)

    async def update(self, request: pb.UpdateRuleRequest) -> pb.UpdateRuleResponse:
        async def work(changes: RuleChanges) -> pb.UpdateRuleResponse:
            rule = await changes.get(request.tenant_id, request.rule.rule_id)
            new = convert.changed(rule, request.rule, request.update_mask.paths)
            return pb.UpdateRuleResponse(rule=convert.rule_to(await changes.update(new)))

        return await self._once(request, pb.UpdateRuleResponse, "UpdateRule", work)

    async def delete(self, request: pb.DeleteRuleRequest) -> pb.DeleteRuleResponse:
        async def work(changes: RuleChanges) -> pb.DeleteRuleResponse:
            await changes.delete(request.tenant_id, request.rule_id)
            return pb.DeleteRuleResponse()

        return await self._once(request, pb.DeleteRuleResponse, "DeleteRule", work)

    async def list(self, request: pb.ListRulesRequest) -> pb.ListRulesResponse:
        method, filters = f"{_METHOD}ListRules", (request.tenant_id,)
        position = pages.decode(request.page_token, method, filters)
        size = request.page_size or _PAGE
        rules, last = await self._store.list(request.tenant_id, str(position[0]) if position else "", size)
        response = pb.ListRulesResponse(rules=[convert.rule_to(rule) for rule in rules])
        if last:
            response.next_page_token = pages.encode(method, filters, [last])
        return response

    async def set_override(self, request: pb.SetOverrideRequest) -> pb.SetOverrideResponse:
        selector = convert.selector_from(request.override.selector)

        async def work(changes: RuleChanges) -> pb.SetOverrideResponse:
            rule = await changes.effective(request.tenant_id, request.rule_id)
            override = convert.override_from(request.override, rule)
            await changes.set_override(request.tenant_id, request.rule_id, selector, override)
            rule = await changes.effective(request.tenant_id, request.rule_id)
            return pb.SetOverrideResponse(rule=convert.rule_to(rule))

        return await self._once(request, pb.SetOverrideResponse, "SetOverride", work)

    async def delete_override(self, request: pb.DeleteOverrideRequest) -> pb.DeleteOverrideResponse:
        selector = convert.selector_from(request.selector)

        async def work(changes: RuleChanges) -> pb.DeleteOverrideResponse:
            await changes.effective(request.tenant_id, request.rule_id)
            await changes.delete_override(request.tenant_id, request.rule_id, selector)
            rule = await changes.effective(request.tenant_id, request.rule_id)
            return pb.DeleteOverrideResponse(rule=convert.rule_to(rule))

        return await self._once(request, pb.DeleteOverrideResponse, "DeleteOverride", work)

    async def _once(
        self,
        request: Message,
        response: type[Response],
        method: str,
        work: Callable[[RuleChanges], Awaitable[Response]],
    ) -> Response:
        answer = await self._store.once(request, response, _METHOD + method, work)
        await self._book.changed()
        return answer
