"""What each process is told: of the environment that the stack was started with, only what that process reads.

A secret that one service needs (the key of a model, the address of a database with its password) stands in the
environment of that service and in no other.
"""

import importlib
from collections.abc import Mapping
from functools import cache

OPERATING_SYSTEM = (
    "HOME",
    "LANG",
    "LANGUAGE",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "TZDIR",
    "USER",
    "VIRTUAL_ENV",
)
"""What every process may know."""
PREFIXES = ("LC_", "PYTHON", "MALLOC_", "GRPC_")
"""Beginnings of names that say how to run, and nothing else."""
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
"""For those who call out; an address of a proxy may hold a password."""
CALLS_OUT = frozenset({"delivery", "dialog"})
TRACING = "OTEL_"
"""Begins what OpenTelemetry's SDK reads by itself; all services are traced alike."""
ONE_NAME = "OTEL_SERVICE_NAME"
"""Not for many services: their spans could not be told apart."""
TESTS = ("PARLEY_CRASH_FOLDER",)


def of_system(given: Mapping[str, str]) -> dict[str, str]:
    """What a store is told, and every service: nothing of ours."""
    return {name: value for name, value in given.items() if name in OPERATING_SYSTEM or name.startswith(PREFIXES)}


def of_service(given: Mapping[str, str], service: str) -> dict[str, str]:
    """What is given of the settings that a service reads, without the addresses of stores, and what is around it."""
    names = {*variables(service), *TESTS} - {"PARLEY_DATABASE_URL", "PARLEY_REDIS_URL"}
    if service in CALLS_OUT:
        names |= {*PROXIES, *(name.lower() for name in PROXIES)}
    names |= {name for name in given if name.startswith(TRACING) and name != ONE_NAME}
    return of_system(given) | {name: value for name, value in given.items() if name in names}


@cache
def variables(service: str) -> frozenset[str]:
    """The names of all settings of a service."""
    from services.runtime.settings import Settings

    module = importlib.import_module(f"services.{service}.settings")
    found = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Settings)]
    fields = {name: field for settings in found for name, field in settings.model_fields.items()}
    return frozenset(
        alias if isinstance(alias := field.validation_alias, str) else f"PARLEY_{name.upper()}"
        for name, field in fields.items()
    )
