"""SEC-2: tokens of tenants' services are listed, named, revocable, and end after 90 days at most."""

import json
import math
import time
from pathlib import Path

import pytest

from deploy.local import tokens
from deploy.local.home import Home
from deploy.local.keyrings import hand_out
from deploy.local.rotating import TO_NOTICE, rotate
from deploy.local.tokens import TokenRefused, issue, issued, revoke
from services.kernel.errors import ParleyError
from services.runtime.keys import KeyMissing, Keys, ensure_keys
from services.runtime.rotation import ROTATABLE, replace_file
from services.runtime.verifier import Verifier

DAY = 86_400.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.create()
    ensure_keys(home.keys)
    hand_out(home.keys, home.keyrings)
    return home


def verifier(home: Home, service: str = "dialog") -> Verifier:
    """As a process of the stack has it."""
    return Verifier(Keys(home.keyring(service)), service)


def test_a_token_works_is_listed_and_is_kept_nowhere(home: Home) -> None:
    token, row = issue(home, issuer="integration", tenant_id="acme", name="shop", seconds=90 * DAY)
    caller = verifier(home).verify(token)
    assert (caller.name, caller.tenants) == ("integration", frozenset({"acme"}))
    assert issued(home) == [row]
    assert (row.name, row.tenant_id, row.revoked_at) == ("shop", "acme", None)
    for path in home.path.rglob("*"):
        assert not path.is_file() or token not in path.read_text(errors="replace")
    assert home.tokens_file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("seconds", [0.0, -1.0, 90 * DAY + 1])
def test_a_token_holds_for_ninety_days_at_most(home: Home, seconds: float) -> None:
    with pytest.raises(TokenRefused, match="90 days"):
        issue(home, issuer="integration", tenant_id="acme", name="", seconds=seconds)
    assert issued(home) == []


def test_a_revoked_token_is_refused_by_every_service_and_others_are_not(home: Home) -> None:
    token, row = issue(home, issuer="integration", tenant_id="acme", name="shop", seconds=DAY)
    other, _ = issue(home, issuer="integration", tenant_id="acme", name="other", seconds=DAY)
    assert revoke(home, row.id).revoked_at
    assert revoke(home, row.id) == issued(home)[0], "once more changes nothing"
    for service in ("dialog", "delivery", "limits", "context", "telemetry"):
        with pytest.raises(ParleyError, match="revoked"):
            verifier(home, service).verify(token)
        assert verifier(home, service).verify(other).name == "integration"
    with pytest.raises(TokenRefused, match="no token"):
        revoke(home, "st_0")


def test_a_revocation_that_is_cut_short_counts_or_can_be_asked_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    token, row = issue(home, issuer="integration", tenant_id="acme", name="shop", seconds=DAY)
    for survived in range(2):
        left = [survived]

        def replace(path: Path, content: bytes, left: list[int] = left) -> None:
            if left[0] == 0:
                raise Died
            left[0] -= 1
            replace_file(path, content)

        monkeypatch.setattr(tokens, "replace_file", replace)
        with pytest.raises(Died):
            revoke(home, row.id)
        assert issued(home) == [row], "not said before it is so"
    monkeypatch.undo()
    revoke(home, row.id)
    with pytest.raises(ParleyError, match="revoked"):
        verifier(home).verify(token)


def test_what_was_revoked_stays_so_whatever_became_of_the_list(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(home: Home, rows: object) -> None:
        raise InterruptedError

    token, row = issue(home, issuer="integration", tenant_id="acme", name="shop", seconds=DAY)
    lost, gone = issue(home, issuer="integration", tenant_id="acme", name="lost", seconds=DAY)
    revoke(home, gone.id)
    with monkeypatch.context() as patched:
        patched.setattr(tokens, "_write", dies)
        with pytest.raises(InterruptedError):
            revoke(home, row.id)
    home.tokens_file.unlink()
    _, other = issue(home, issuer="integration", tenant_id="acme", name="other", seconds=DAY)
    revoke(home, other.id)
    for each in (token, lost):
        with pytest.raises(ParleyError, match="revoked"):
            verifier(home).verify(each)


def test_the_list_of_revoked_tokens_forgets_those_that_have_ended(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    _, old = issue(home, issuer="integration", tenant_id="acme", name="old", seconds=DAY)
    revoke(home, old.id)
    later = time.time() + 200 * DAY
    monkeypatch.setattr(time, "time", lambda: later)
    _, new = issue(home, issuer="integration", tenant_id="acme", name="new", seconds=DAY)
    revoke(home, new.id)
    assert set(json.loads((home.keys / "revoked.json").read_text())) == {new.id}


def test_tokens_outlive_a_rotation_unless_the_old_key_ends_at_once(home: Home) -> None:
    token, _ = issue(home, issuer="integration", tenant_id="acme", name="shop", seconds=DAY)
    tokens.write_tokens(home, Keys(home.keys))
    assert rotate(home, [], now=False) == list(ROTATABLE)
    assert verifier(home).verify(token).name == "integration"
    assert verifier(home).verify(home.token_file.read_text()).name == "operator"
    assert not any(row.revoked_at for row in issued(home))
    assert rotate(home, ["operator", "dialog"], now=True) == ["dialog", "operator"]
    ends = [key.until for key in Keys(home.keyring("edge")).public("dialog").values() if key.until < math.inf]
    assert len(ends) == 2
    assert max(ends) < time.time() + TO_NOTICE, "also the one before, which had six minutes left"
    with pytest.raises(ParleyError, match="not known"):
        verifier(home).verify(token)
    assert all(row.revoked_at for row in issued(home)), "it is not listed as if it held"
    assert verifier(home).verify(home.token_file.read_text()).name == "operator"


def test_what_cannot_be_rotated_is_refused(home: Home, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no key 'simulator'"):
        rotate(home, ["simulator"], now=False)
    with pytest.raises(KeyMissing):
        rotate(Home(tmp_path / "empty"), [], now=False)
