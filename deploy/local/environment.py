"""Gives each process only those variables of the stack's environment that it reads.

A secret that one service needs, such as the key of a model or the password of a database, is in the environment of that
service and of no other.
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
"""Variables that every process gets."""
PREFIXES = ("LC_", "PYTHON", "MALLOC_", "GRPC_")
"""Prefixes of variables that say how to run, which every process gets as well."""
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
"""Only for services that call out, as the address of a proxy may hold a password."""
CALLS_OUT = frozenset({"delivery", "dialog"})
TRACING = "OTEL_"
"""The prefix of what OpenTelemetry's SDK reads by itself. All services are traced alike."""
ONE_NAME = "OTEL_SERVICE_NAME"
"""Given to no service, because spans of different services could not be told apart."""
TESTS = ("PARLEY_CRASH_FOLDER",)


def of_system(given: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables for every process, stores included."""
    return {name: value for name, value in given.items() if name in OPERATING_SYSTEM or name.startswith(PREFIXES)}


def of_service(given: Mapping[str, str], service: str) -> dict[str, str]:
    """Returns the variables for a service, without the addresses of stores."""
    names = {*variables(service), *TESTS} - {"PARLEY_DATABASE_URL", "PARLEY_REDIS_URL"}
    if service in CALLS_OUT:
        names |= {*PROXIES, *(name.lower() for name in PROXIES)}
    names |= {name for name in given if name.startswith(TRACING) and name != ONE_NAME}
    return of_system(given) | {name: value for name, value in given.items() if name in names}


@cache
def variables(service: str) -> frozenset[str]:
    """Returns the names of all settings of a service."""
    from services.runtime.settings import Settings

    module = importlib.import_module(f"services.{service}.settings")
    found = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Settings)]
    fields = {name: field for settings in found for name, field in settings.model_fields.items()}
    return frozenset(
        alias if isinstance(alias := field.validation_alias, str) else f"PARLEY_{name.upper()}"
        for name, field in fields.items()
    )
