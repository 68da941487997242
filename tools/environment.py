"""Create `.venv` and install one of the locked package sets into it.

    python3 tools/environment.py runtime|dev

Uses the standard library only, because it runs before anything is installed. A stamp with
the hash of the lock file makes a second run instant; a lock on the requirements folder makes
two runs at once safe. The `dev` set contains the `runtime` set at the same versions.

The project itself is not installed: a `.pth` file puts the repository root, `gen/` and
`clients/` on the path, so an edit takes effect at once and no build backend is fetched.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
SETS = {"runtime": ("runtime",), "dev": ("dev", "runtime")}

PARLEY = f"""#!{PYTHON}
import sys

from parley_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
"""


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in SETS:
        print(__doc__, file=sys.stderr)
        return 2
    folder = os.open(REQUIREMENTS, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        create_venv()
        link_sources()
        install(sys.argv[1])
    except subprocess.CalledProcessError as failure:
        print(f"setup failed: {' '.join(map(str, failure.cmd[:4]))} ... (see above)", file=sys.stderr)
        return 1
    finally:
        os.close(folder)
    return 0


def create_venv() -> None:
    """Make the environment, or make it anew when its interpreter or its pip does not run."""
    if PYTHON.exists() and runs(PYTHON, "-c", "import pip, sys; sys.exit(sys.version_info < (3, 11))"):
        return
    print(f"creating .venv with Python {sys.version.split()[0]}", flush=True)
    try:
        venv.create(VENV, clear=True, with_pip=True)
    except subprocess.CalledProcessError:
        print("this Python cannot create environments: on Debian, install python3-venv", file=sys.stderr)
        raise


def link_sources() -> None:
    """Put our sources on the environment's path, and the `parley` command in its bin/."""
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([PYTHON, "-c", query], text=True).strip())
    write(site / "parley.pth", "".join(f"{path}\n" for path in (ROOT, ROOT / "gen", ROOT / "clients")))
    command = VENV / "bin" / "parley"
    write(command, PARLEY)
    command.chmod(0o755)


def install(name: str) -> None:
    """Install a locked set, unless its stamp says that it is there."""
    digests = {part: digest(REQUIREMENTS / f"{part}.lock") for part in SETS[name]}
    stamps = {part: VENV / f".installed-{part}" for part in digests}
    if stamps[name].exists() and stamps[name].read_text() == digests[name]:
        return
    started = time.monotonic()
    print(f"installing {name} packages (the first time takes about a minute)", flush=True)
    options = ["-qq", "--disable-pip-version-check", "--no-deps", "--no-compile", "--require-hashes"]
    lock = str((REQUIREMENTS / f"{name}.lock").relative_to(ROOT))
    subprocess.run([PYTHON, "-m", "pip", "install", *options, "-r", lock], check=True, cwd=ROOT)
    compile_packages()
    for part, stamp in stamps.items():
        stamp.write_text(digests[part])
    print(f"installed {name} packages in {time.monotonic() - started:.0f} s", flush=True)


def compile_packages() -> None:
    """Compile on all cores, which pip does not, and leave out tables that nobody imports."""
    tables = "phonenumbers/(geo|carrier|tz)?data"
    command: list[str | Path] = [PYTHON, "-m", "compileall", "-qq", "-j", "0", "-x", tables, VENV / "lib"]
    subprocess.run(command, capture_output=True, check=False)


def runs(*command: str | Path) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
