"""Generate `gen/` from `protos/`: messages, stubs and their types. Needs no network.

python -m tools.gen            write gen/
python -m tools.gen --check    write nothing; fail when gen/ is not what protos/ say
"""

import sys
import tempfile
from pathlib import Path

from tools import protoc

PROTOS = protoc.ROOT / "protos"
GEN = protoc.ROOT / "gen"


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            wanted = generate(Path(scratch))
        except protoc.ProtocError:
            return 1
    present = {path.relative_to(GEN).as_posix(): path.read_bytes() for path in generated(GEN)}
    changed = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
    if "--check" in sys.argv[1:]:
        for name in changed:
            print(f"gen/{name} differs from protos/: run `make gen` and commit the result", file=sys.stderr)
        return 1 if changed else 0
    for name in changed:
        write(GEN / name, wanted.get(name))
    print(f"gen/: {len(wanted)} files, {len(changed)} changed")
    return 0


def generate(folder: Path) -> dict[str, bytes]:
    """Run protoc into an empty folder and return what it wrote, by path."""
    names = protoc.sources(PROTOS)
    if not names:
        return {}
    bin_folder = Path(sys.executable).parent
    options = [
        f"--plugin=protoc-gen-mypy={bin_folder / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={bin_folder / 'protoc-gen-mypy_grpc'}",
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
        f"--mypy_out=quiet:{folder}",
        f"--mypy_grpc_out=quiet,only_async:{folder}",
    ]
    protoc.run(PROTOS, options, names)
    messages_only = [option for option in options if "grpc" not in option]
    protoc.run(PROTOS, messages_only, [protoc.VALIDATE])
    made = {path.relative_to(folder).as_posix(): path.read_bytes() for path in generated(folder)}
    typed = {f"{name.partition('/')[0]}/py.typed": b"" for name in made}
    return made | typed


def generated(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def write(path: Path, content: bytes | None) -> None:
    """Make a file hold `content`, or go away; untouched files keep their time."""
    if content is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
