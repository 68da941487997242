"""`make dist`: what the wheels hold, and that each works in an environment which has what it requires and no more."""

import importlib.metadata
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import parley_cli
from deploy.local.home import Home
from parley_cli import local
from tests.integration.dist.emptyenv import install, made_for, run

ROOT = Path(__file__).resolve().parents[3]
CLIENT = {"parley_client": "clients/parley_client", "parley": "gen/parley", "buf": "gen/buf"}
PARLEY = {"services": "services", "deploy": "deploy", "parley_cli": "clients/parley_cli", "envoy": "gen/envoy"}
IMPORT_ALL = """
import importlib, importlib.metadata, sys
for file in importlib.metadata.files(sys.argv[1]):
    if file.suffix == ".py" and file.name != "__main__.py":
        importlib.import_module(".".join(file.with_suffix("").parts).removesuffix(".__init__"))
print("imported")
"""


def build(folder: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "tools.dist", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


def wheel(wheels: Path, name: str) -> Path:
    (found,) = wheels.glob(f"{name}-[0-9]*.whl")
    return found


def files(wheels: Path, name: str) -> set[str]:
    with zipfile.ZipFile(wheel(wheels, name)) as archive:
        return {one for one in archive.namelist() if ".dist-info/" not in one}


def metadata(wheels: Path, name: str) -> importlib.metadata.PackageMetadata:
    with zipfile.ZipFile(wheel(wheels, name)) as archive:
        (path,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return importlib.metadata.PathDistribution(zipfile.Path(archive, path.removesuffix("METADATA"))).metadata


def required(wheels: Path, name: str) -> list[str]:
    return metadata(wheels, name).get_all("Requires-Dist") or []


def tree(packages: dict[str, str]) -> set[str]:
    found = set()
    for package, folder in packages.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                found.add(f"{package}/{path.relative_to(ROOT / folder).as_posix()}")
    return found


def test_the_same_sources_make_the_same_wheels(wheels: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again")
    for name in ("parley_client", "parley"):
        assert wheel(wheels, name).read_bytes() == wheel(again, name).read_bytes()


@pytest.mark.parametrize(("name", "packages"), [("parley_client", CLIENT), ("parley", PARLEY)])
def test_a_wheel_holds_every_file_of_its_packages_and_no_other(
    wheels: Path, name: str, packages: dict[str, str]
) -> None:
    assert files(wheels, name) == tree(packages)


def test_the_client_brings_its_stubs_with_their_types(wheels: Path) -> None:
    assert {
        "parley_client/py.typed",
        "parley/py.typed",
        "parley/dialog/v1/dialog_pb2.py",
        "parley/dialog/v1/dialog_pb2.pyi",
    } <= files(wheels, "parley_client")


@pytest.mark.parametrize("name", ["parley_client", "parley"])
def test_metadata_says_what_it_is(wheels: Path, name: str) -> None:
    said = metadata(wheels, name)
    assert (said["Name"], said["Version"]) == (name, parley_cli.__version__)
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Requires-Python"] == ">=3.11"
    assert said["Summary"]
    assert all(">" in one or "==" in one for one in required(wheels, name))


def test_both_are_of_one_version(wheels: Path) -> None:
    assert f"parley_client=={parley_cli.__version__}" in required(wheels, "parley")


def test_the_client_is_typed_and_requires_what_it_imports_and_what_its_stubs_demand(wheels: Path, tmp_path: Path) -> None:
    requirements = required(wheels, "parley_client")
    names = {one.partition(">")[0] for one in requirements}
    assert names == {"grpcio", "protobuf", "googleapis-common-protos", "opentelemetry-api", "typing-extensions"}
    grpc_stubs = (ROOT / "gen/parley/dialog/v1/dialog_pb2_grpc.py").read_text()
    generated = re.search(r"GRPC_GENERATED_VERSION = '(.*)'", grpc_stubs)
    assert generated is not None
    assert f"grpcio>={generated[1]}" in requirements
    stubs = (ROOT / "gen/parley/dialog/v1/dialog_pb2.py").read_text()
    assert f"protobuf>={'.'.join(re.findall(r'^    ([0-9]+),', stubs, re.MULTILINE)[:3])}" in requirements
    python = made_for(requirements, tmp_path / "env")
    install(python, wheels, "parley_client")
    assert run([python, "-c", IMPORT_ALL, "parley_client"], tmp_path) == "imported\n"
    examples = sorted((ROOT / "clients" / "examples").glob("*.py"))
    mypy: list[str | Path] = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable", python]
    for example in examples:
        assert "Success" in run([*mypy, example], tmp_path)


@pytest.fixture(scope="module")
def installed(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with `parley`."""
    needed = required(wheels, "parley") + required(wheels, "parley_client")
    python = made_for(needed, tmp_path_factory.mktemp("installed") / "env")
    install(python, wheels, "parley")
    return python


def test_parley_requires_what_it_imports(installed: Path, tmp_path: Path) -> None:
    assert run([installed, "-c", IMPORT_ALL, "parley"], tmp_path) == "imported\n"


def test_the_command_runs_and_keeps_its_state_in_the_users_home(installed: Path, tmp_path: Path) -> None:
    command = installed.with_name("parley")
    assert run([command, "--version"], tmp_path) == f"parley {parley_cli.__version__}\n"
    assert "up" in run([command, "--help"], tmp_path)
    homes = "import deploy.local.home as a, parley_cli.local as b; print(a.Home.of({}).path, b.home())"
    assert run([installed, "-c", homes], tmp_path) == f"{tmp_path / '.parley'} {tmp_path / '.parley'}\n"


def test_a_folder_of_the_users_is_not_taken_for_ours(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "deploy" / "local").mkdir(parents=True)
    (tmp_path / "deploy" / "__init__.py").touch()
    (tmp_path / "deploy" / "local" / "__main__.py").write_text("print('not ours')")
    said = run([installed.with_name("parley"), "keys", "rotate"], tmp_path, code=1)
    assert "has `make run` been started once?" in said


def test_the_command_line_and_the_stack_have_one_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARLEY_HOME", raising=False)
    assert Home.of({}).path == local.home() == ROOT / ".parley"
