"""Keys are made once; tokens prove who calls, for whom and until when."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.kernel.errors import Kind, ParleyError
from services.runtime.auth import ALL
from services.runtime.keyfiles import private_pem
from services.runtime.keys import (
    SERVICES,
    KeyMissing,
    Keys,
    ServiceTokens,
    ensure_keys,
    make_token,
    tokens_of,
)
from services.runtime.verifier import LEEWAY, Verifier


class Time:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def refused(verifier: Verifier, token: str) -> ParleyError:
    with pytest.raises(ParleyError) as caught:
        verifier.verify(token)
    assert (caught.value.kind, caught.value.reason) == (Kind.UNAUTHENTICATED, "INVALID_TOKEN")
    return caught.value


def test_keys_are_readable_by_their_owner_only_and_made_once(tmp_path: Path) -> None:
    first = ensure_keys(tmp_path / "keys")
    master, private = first.master, first.private("dialog").private_bytes_raw()
    for path in (tmp_path / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = ensure_keys(tmp_path / "keys")
    assert (second.master, second.private("dialog").private_bytes_raw()) == (master, private)


def test_processes_that_make_keys_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: ensure_keys(tmp_path), range(8)))
    assert len({keys.master for keys in made}) == 1
    for name in SERVICES:
        assert list(Keys(tmp_path).public(name))  # and each public key is of the private one
        token = tokens_of(tmp_path, name).token("limits")
        assert Verifier(Keys(tmp_path), "limits").verify(token).name == name
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_missing_key_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(KeyMissing, match=r"python -m services\.runtime\.keys"):
        Keys(tmp_path).private("dialog")


def test_a_service_token_names_its_caller_for_all_tenants(keys_dir: Path) -> None:
    caller = Verifier(Keys(keys_dir), "limits").verify(tokens_of(keys_dir, "dialog").token("limits"))
    assert caller.name == "dialog"
    assert caller.tenants is ALL


def test_a_token_is_reused_until_a_minute_before_its_end(keys_dir: Path) -> None:
    clock = Time()
    tokens = ServiceTokens("dialog", Keys(keys_dir), time=clock)
    first = tokens.token("limits")
    clock.now += 239
    assert tokens.token("limits") == first
    assert tokens.token("context") != first
    clock.now += 2
    assert tokens.token("limits") != first


def test_an_expired_token_is_refused_also_when_it_was_seen_before(keys_dir: Path) -> None:
    clock = Time()
    verifier = Verifier(Keys(keys_dir), "limits", time=clock)
    token = ServiceTokens("dialog", Keys(keys_dir), time=clock).token("limits")
    verifier.verify(token)
    clock.now += 300 + LEEWAY + 1
    assert "expired" in refused(verifier, token).message


def test_a_token_for_another_service_is_refused(keys_dir: Path) -> None:
    token = tokens_of(keys_dir, "dialog").token("limits")
    assert "not for delivery" in refused(Verifier(Keys(keys_dir), "delivery"), token).message


def test_a_service_cannot_speak_for_another_nor_for_the_operator(keys_dir: Path) -> None:
    key = Keys(keys_dir).private("edge")
    verifier = Verifier(Keys(keys_dir), "limits")
    for issuer in ("dialog", "operator", "integration", "stranger", ""):
        token = make_token(key, issuer=issuer, audience="limits", tenants=["*"], expires_at=4e9)
        refused(verifier, token)


def test_only_the_operators_key_makes_tokens_for_every_service(keys_dir: Path) -> None:
    keys = Keys(keys_dir)
    verifier = Verifier(keys, "limits")
    soon = time() + 3600
    operator = keys.private("operator")
    for_all = make_token(operator, issuer="integration", audience="*", tenants=["acme"], expires_at=soon)
    caller = verifier.verify(for_all)
    assert (caller.name, caller.tenants) == ("integration", frozenset({"acme"}))
    refused(verifier, make_token(keys.private("edge"), issuer="edge", audience="*", tenants=["*"], expires_at=4e9))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é" * 20, "eyJhbGciOiJub25lIn0.eyJpc3MiOiJkaWFsb2cifQ."])
def test_what_is_no_token_is_refused(keys_dir: Path, token: str) -> None:
    refused(Verifier(Keys(keys_dir), "limits"), token)


def test_a_forged_signature_is_refused(keys_dir: Path) -> None:
    forged = make_token(Ed25519PrivateKey.generate(), issuer="dialog", audience="limits", tenants=["*"], expires_at=4e9)
    refused(Verifier(Keys(keys_dir), "limits"), forged)


def test_while_a_pair_is_replaced_tokens_of_both_are_good(tmp_path: Path) -> None:
    keys = ensure_keys(tmp_path)
    old = tokens_of(tmp_path, "dialog").token("limits")
    new = Ed25519PrivateKey.generate()
    pem = new.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "dialog.pub").write_bytes((tmp_path / "dialog.pub").read_bytes() + pem)
    (tmp_path / "dialog.key").write_bytes(private_pem(new))
    verifier = Verifier(Keys(keys.folder), "limits")
    assert verifier.verify(old).name == "dialog"
    assert verifier.verify(tokens_of(tmp_path, "dialog").token("limits")).name == "dialog"


def test_derived_keys_differ_by_purpose_and_survive_a_new_master_key(tmp_path: Path) -> None:
    keys = ensure_keys(tmp_path)
    before = keys.derive("index")
    (tmp_path / "master.key").write_bytes(bytes(32))
    assert Keys(tmp_path).derive("index") == before != keys.derive("other")
