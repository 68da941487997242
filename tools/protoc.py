"""Run protoc offline over a folder of our protos.

`buf/validate/validate.proto` comes in no wheel, so its descriptor is taken from the
protovalidate package and given to protoc as a descriptor set; `google/rpc` and the
well-known types come from the include folders of installed packages.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool
from google.rpc import status_pb2
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).resolve().parent.parent
VALIDATE = "buf/validate/validate.proto"


class ProtocError(Exception):
    """protoc refused the protos; it has printed why on standard error."""


def sources(protos: Path) -> list[str]:
    """The proto files of a folder, as protoc names them, sorted so that output is deterministic."""
    return sorted(path.relative_to(protos).as_posix() for path in protos.rglob("*.proto"))


def run(protos: Path, options: Sequence[str], names: Sequence[str]) -> None:
    """Run protoc with `options` on `names`, found in `protos` or in an installed package."""
    googleapis = Path(status_pb2.__file__).parents[2]
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as scratch:
        validate = Path(scratch) / "validate.binpb"
        validate.write_bytes(validate_descriptors().SerializeToString(deterministic=True))
        includes = [f"-I{folder}" for folder in (protos, well_known, googleapis)]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={validate}"]
        result = subprocess.run([*command, *includes, *options, *names], check=False, cwd=protos)
    if result.returncode:
        raise ProtocError


def build_image(protos: Path, image: Path) -> None:
    """Write the protos with their imports and comments as one file, which buf reads offline."""
    options = ["--include_imports", "--include_source_info", f"--descriptor_set_out={image}"]
    run(protos, options, sources(protos))


def validate_descriptors() -> descriptor_pb2.FileDescriptorSet:
    """The descriptor of `buf/validate/validate.proto`, after those of the files it imports."""
    validate = descriptor_pb2.FileDescriptorProto.FromString(validate_pb._DESC.proto.to_binary())
    found = descriptor_pb2.FileDescriptorSet()
    for name in validate.dependency:
        __import__(name.removesuffix(".proto").replace("/", ".") + "_pb2")
        descriptor_pool.Default().FindFileByName(name).CopyToProto(found.file.add())
    found.file.append(validate)
    return found
