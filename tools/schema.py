"""Check the style of `protos/` and that they break no client of the last commit.

    python -m tools.schema lint
    python -m tools.schema breaking

buf reads an image that protoc built, because resolving buf.yaml's dependency needs a network.
`breaking` compares with HEAD when protos/ has uncommitted changes, else with the commit before.
"""

import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from tools import protoc

PROTOS = protoc.ROOT / "protos"
BUF = Path(sys.executable).parent / "buf"


def main() -> int:
    commands = {"lint": lint, "breaking": breaking}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return commands[sys.argv[1]](Path(scratch))
        except protoc.ProtocError:
            return 1


def lint(scratch: Path) -> int:
    image = scratch / "now.binpb"
    protoc.build_image(PROTOS, image)
    return buf("lint", image)


def breaking(scratch: Path) -> int:
    revision = "HEAD" if git("status", "--porcelain", "--", "protos") else "HEAD~1"
    archive = git("archive", revision, "protos")
    if not archive:
        print(f"buf breaking: {revision} has no protos, nothing to compare with")
        return 0
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(scratch, filter="data")
    before, now = scratch / "before.binpb", scratch / "now.binpb"
    protoc.build_image(scratch / "protos", before)
    protoc.build_image(PROTOS, now)
    return buf("breaking", now, "--against", before)


def buf(command: str, image: Path, *options: str | Path) -> int:
    arguments = [BUF, command, image, "--config", protoc.ROOT / "buf.yaml", *options]
    return subprocess.run(arguments, check=False).returncode


def git(*arguments: str) -> bytes:
    """What git prints, or nothing when it fails, as for a revision that does not exist."""
    return subprocess.run(["git", *arguments], cwd=protoc.ROOT, capture_output=True, check=False).stdout


if __name__ == "__main__":
    sys.exit(main())
