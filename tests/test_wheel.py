"""The wheel: installed into an empty folder, and used from another one, it does what the README shows."""

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from gmi.cli import COMMANDS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
SOURCES = ("gmi", "configs", "priors", "pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Installed:
    """A wheel and the folder that it is installed in."""

    wheel: Path
    site: Path

    def run(self, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """A Python command in a working folder, with the installed gmi and this environment's other packages."""
        environment = os.environ | {"PYTHONPATH": str(self.site)}
        words = [sys.executable, "-W", "ignore", *command]
        return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


def pip(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "--quiet", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    """Built from a copy of the sources, so that no remains of an earlier build get in."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        options = {"symlinks": True} if (ROOT / name).is_dir() else {}
        copy(ROOT / name, folder / "source" / name, **options)
    pip("wheel", "--no-deps", *isolation(), "--wheel-dir", str(folder), str(folder / "source"))
    (wheel,) = folder.glob("gmi-*.whl")
    pip("install", "--no-deps", "--target", str(folder / "site"), str(wheel))
    shutil.rmtree(folder / "source")
    return Installed(wheel, folder / "site")


def isolation() -> list[str]:
    """Without a download where this environment can build."""
    try:
        return ["--no-build-isolation"] if int(version("setuptools").partition(".")[0]) >= 77 else []
    except PackageNotFoundError:
        return []


def test_the_wheel_holds_whatever_the_package_reads(installed):
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gmi").rglob("*") if path.is_file()}
    sources |= {f"gmi/shipped/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    flow48 = (ROOT / "priors" / "flow48").rglob("*")
    sources |= {f"gmi/shipped/{path.relative_to(ROOT)}" for path in flow48 if path.is_file()}
    assert {name for name in sources if "__pycache__" not in name} <= names
    assert {"gmi/shipped/configs/quickstart.yaml", "gmi/shipped/priors/flow48/README.md"} <= names
    assert not any(name.startswith(("tests/", "pipelines/", "scripts/")) for name in names)
    assert {name.split("/")[3] for name in names if name.startswith("gmi/shipped/priors/")} == {"flow48"}


def test_the_command_works_from_an_empty_folder(installed, tmp_path):
    where = installed.run(tmp_path, "-c", "import gmi; print(gmi.__file__)").stdout
    assert where.startswith(str(installed.site))
    helped = installed.run(tmp_path, str(installed.site / "bin" / "gmi"), "--help")
    assert helped.returncode == 0 and helped.stderr == "" and all(name in helped.stdout for name in COMMANDS)
    assert installed.run(tmp_path, "-m", "gmi").stdout == helped.stdout
    assert not [*tmp_path.iterdir()]


def test_the_quickstart_is_forecast_from_an_empty_folder(installed, tmp_path):
    forecast = installed.run(tmp_path, "-m", "gmi", "audit", "quickstart", "--dry-run")
    assert forecast.returncode == 0, forecast.stderr
    assert "name: quickstart" in forecast.stdout and "within a factor of two" in forecast.stdout
    assert "gmi train-target quickstart makes them" in forecast.stdout
    refused = installed.run(tmp_path, "-m", "gmi", "audit", "quickstart")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "yet: gmi train-target quickstart makes them." in refused.stderr
    assert not [*tmp_path.iterdir()]


def test_the_prior_in_the_wheel_is_found_from_an_empty_folder(installed, tmp_path):
    code = "from gmi.assets.catalogue import resolve; print(resolve('priors/flow48') / 'README.md')"
    card = Path(installed.run(tmp_path, "-c", code).stdout.strip())
    assert card.is_file() and card.is_relative_to(installed.site)
