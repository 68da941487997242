"""What a caller may do for whom."""

import pytest

from services.kernel.errors import Kind, ParleyError
from services.runtime.auth import ALL, Caller, caller, require_tenant, set_caller


def test_a_caller_for_all_tenants_may_act_for_each_and_for_none() -> None:
    everyone = Caller("dialog", ALL)
    assert all(everyone.allows(tenant) for tenant in ("acme", "", "*"))


def test_a_caller_for_one_tenant_may_act_for_that_one_only() -> None:
    acme = Caller("integration", frozenset({"acme"}))
    assert acme.allows("acme")
    assert not any(acme.allows(tenant) for tenant in ("", "*", "other", "ac", "acme2"))


def test_requiring_a_tenant_refuses_another_and_names_it() -> None:
    set_caller(Caller("integration", frozenset({"acme"})))
    assert caller().name == "integration"
    require_tenant("acme")
    with pytest.raises(ParleyError) as caught:
        require_tenant("other")
    assert (caught.value.kind, caught.value.reason) == (Kind.DENIED, "TENANT_NOT_ALLOWED")
    assert caught.value.metadata == {"tenant_id": "other"}
