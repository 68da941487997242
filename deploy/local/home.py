"""The folder with the state of one local stack."""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""The repository, or where the wheel was installed."""


class AlreadyRunning(RuntimeError):
    """Another `parley up` uses this home."""


@dataclass(frozen=True)
class Home:
    """`.parley` in the repository, or in the user's home when a wheel was installed, or where `PARLEY_HOME` says.

    Everything in it is for its owner only.
    """

    path: Path

    @staticmethod
    def of(environment: Mapping[str, str]) -> "Home":
        given = environment.get("PARLEY_HOME", "").strip()
        usual = (ROOT if (ROOT / "pyproject.toml").is_file() else Path.home()) / ".parley"
        return Home(Path(given).expanduser().resolve() if given else usual)

    @property
    def stack_file(self) -> Path:
        """Processes, addresses and URLs of what runs."""
        return self.path / "stack.json"

    @property
    def demo_file(self) -> Path:
        """Secrets of the demo tenant."""
        return self.path / "demo.json"

    @property
    def token_file(self) -> Path:
        """The operator's token, renewed while the stack runs."""
        return self.path / "operator.token"

    @property
    def metrics_token_file(self) -> Path:
        """The token with which Prometheus reads the metrics, renewed while the stack runs."""
        return self.path / "metrics.token"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def tokens_file(self) -> Path:
        """The list of tokens that were given away, without the tokens."""
        return self.path / "tokens.json"

    @property
    def keyrings(self) -> Path:
        return self.path / "keyrings"

    def keyring(self, service: str) -> Path:
        """The keys of one process."""
        return self.keyrings / service

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def create(self) -> None:
        """Makes the folder, and closes it to others. Raises `OSError` if it cannot be written."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)
        (self.path / "logs").mkdir(exist_ok=True, mode=0o700)

    def lock(self) -> int:
        """Locks the home for this process, until it ends. Raises `AlreadyRunning`."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            pid = (read_json(self.stack_file) or {}).get("pid", "?")
            raise AlreadyRunning(
                f"a stack runs already in {self.path} (process {pid}): use it (parley status), stop it (Ctrl-C there), "
                "or give this one another PARLEY_HOME and other ports"
            ) from None
        return descriptor


def write_private(path: Path, text: str) -> None:
    """Replaces a file in one step, readable by its owner only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replaces a JSON file in one step, readable by its owner only."""
    write_private(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Reads a JSON file; returns None if there is none or it is not one of ours."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
