"""The proxies that the process's environment names: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`."""

from ipaddress import ip_address
from urllib.request import getproxies_environment, proxy_bypass

from yarl import URL


class EnvironmentProxies:
    """Which calls go through a proxy. Those to this machine itself never do."""

    def __init__(self) -> None:
        """Raises ValueError, which names the variable, for a proxy that speaks no HTTP."""
        given = getproxies_environment()
        self._addresses = {
            scheme: parse(given[scheme], f"{scheme.upper()}_PROXY") for scheme in ("http", "https") if given.get(scheme)
        }

    def find(self, host: str, *, tls: bool) -> URL | None:
        """The proxy for calls to a host; None when they are made directly."""
        proxy = self._addresses.get("https" if tls else "http")
        if proxy is None or _is_here(host) or proxy_bypass(host):
            return None
        return proxy


def parse(address: str, name: str) -> URL:
    """Raises ValueError, which begins with `name`, unless it is the address of an HTTP proxy."""
    try:
        url = URL(address if "://" in address else f"http://{address}")
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise ValueError(f"{name}: not the address of an HTTP proxy")
    return url


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
