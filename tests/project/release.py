"""The checklist of a release, carried out: ``make release-check``, or ``python -m tests.project.release``.

It says of each item ``ok``, ``FAILED`` or ``NOT TESTED``, with what is wrong, and ends with 1 when anything failed.
Before a release ``RELEASE_ARGS=--final`` also wants what only a release has: a dated section in the changelog, a clean
checkout, a README that does not say "not released". `.ci/run` and `make test-matrix` are no part of it: they come
first.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.project.test_wheel import CHECKOUT, SCRIPT
from tests.support.server import Server, run_server

__all__ = ["CHECKS", "Check", "licence_problems", "read_first", "version_problems"]

DISTRIBUTION = "langgraph-checkpoint-eventlog"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
EXTRAS = "archive,binary,cli,embedded,mcp,otel,seal,ui"

#: Licences that a user may be given with a package under the MIT licence, as SPDX or classifiers name them.
ALLOWED = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla Public|LGPL|Lesser General Public|PostgreSQL|"
    r"Unlicense|0BSD|Zlib)",
    re.IGNORECASE,
)
#: Their licence is not in their metadata: read at the address, on the day.
READ_BY_HAND: dict[str, str] = {}

#: Run in a bare environment: each installed distribution with what its metadata says of its licence.
LICENCES = """
import importlib.metadata as m, json
found = {}
for each in m.distributions():
    said = each.metadata
    classifiers = [c.rpartition(" :: ")[2] for c in said.get_all("Classifier") or () if c.startswith("License ::")]
    found[said["Name"]] = [text for text in (said.get("License-Expression"), *classifiers, said.get("License")) if text]
print(json.dumps(found))
"""


class CheckFailed(Exception):
    """What does not hold, for people."""


class NotTested(Exception):
    """What this machine lacks."""


class Release(NamedTuple):
    """What the checks are of."""

    version: str
    is_final: bool
    dist: Path
    """A folder with the wheel and the source distribution."""
    server: Server


def run(*command: str | Path, cwd: Path = CHECKOUT) -> str:
    """Run a program; its output. Raises CheckFailed with the end of what it wrote."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", timeout=1800, check=False)
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise CheckFailed("\n".join([" ".join(map(str, command)), *lines[-15:]]))
    return done.stdout


# --- what is said


def version_problems(version: str, changelog: str, readme: str, *, is_final: bool) -> Iterator[str]:
    """Where version, changelog and README say different things."""
    dated = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)
    unreleased = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## \[|\Z)", changelog, re.MULTILINE | re.DOTALL)
    if unreleased is None:
        yield "CHANGELOG.md has no section [Unreleased]"
    elif dated is None and not re.search(rf"Version {re.escape(version)} will be\b", unreleased[1]):
        yield f"CHANGELOG.md has neither a dated section [{version}] nor says 'Version {version} will be …'"
    if is_final and dated is None:
        yield f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'"
    said = set(re.findall(r"Version (\d+\.\d+\.\d+) is not released yet", readme))
    if dated is None and said != {version}:
        yield f"README and quickstart must say 'Version {version} is not released yet' until it is"
    if (is_final or dated is not None) and said:
        yield "README or quickstart still says 'not released yet'"


def read_first() -> str:
    """What a user reads first: README and quickstart."""
    return "\n".join((CHECKOUT / name).read_text() for name in ("README.md", "docs/quickstart.md"))


def check_version(release: Release) -> None:
    changelog = (CHECKOUT / "CHANGELOG.md").read_text()
    problems = list(version_problems(release.version, changelog, read_first(), is_final=release.is_final))
    names = sorted(path.name for path in release.dist.iterdir())
    normalized = DISTRIBUTION.replace("-", "_")
    if names != [f"{normalized}-{release.version}-py3-none-any.whl", f"{normalized}-{release.version}.tar.gz"]:
        problems.append(f"the build made {', '.join(names)}")
    if problems:
        raise CheckFailed("\n".join(problems))


def check_checkout(release: Release) -> None:
    if not release.is_final:
        raise NotTested("a clean checkout: only with --final")
    if left := run("git", "status", "--porcelain"):
        raise CheckFailed(f"not committed:\n{left}")


# --- what ships


def check_contents(release: Release) -> None:
    run(sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/project/test_wheel.py", "-k", "holds or tracked")


def python_of(version: str) -> str:
    """The program of a Python version, on the PATH or in pyenv. Raises NotTested where the machine has none."""
    found = shutil.which(f"python{version}")
    if found is None or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode != 0:
        prefix = ""
        if pyenv := shutil.which("pyenv"):
            asked = subprocess.run([pyenv, "prefix", version], capture_output=True, encoding="utf-8", check=False)
            prefix = asked.stdout.strip()
        found = f"{prefix}/bin/python{version}"
        if not prefix or not Path(found).exists():
            raise NotTested(f"Python {version} is not on this machine")
    return found


@contextmanager
def bare_environment(python: str, *requirements: str) -> Iterator[Path]:
    """A new environment with these alone; yields its Python."""
    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        made = Path(folder) / "bin" / "python"
        run(sys.executable, "-m", "uv", "venv", "--quiet", "--clear", "--no-project", "--python", python, folder)
        run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", made, *requirements, cwd=Path(folder))
        yield made


def built(release: Release, pattern: str) -> Path:
    (path,) = release.dist.glob(pattern)
    return path


def check_install(release: Release, version: str, pattern: str) -> None:
    """What was built stores and reads a checkpoint where nothing else is installed; its command says its version."""
    python = python_of(version)
    name = release.server.create_database(prefix="release")
    try:
        with bare_environment(python, f"{built(release, pattern)}[binary,cli]") as made:
            script = made.parents[1] / "script.py"
            script.write_text(SCRIPT)
            run(made, "-I", script, release.server.uri(name), CHECKOUT, cwd=made.parent)
            said = run(made.with_name("eventlog"), "--version", cwd=made.parent).split()
            if release.version not in said:
                raise CheckFailed(f"eventlog --version says {' '.join(said)}")
    finally:
        release.server.drop_database(name)


def licence_problems(found: dict[str, list[str]]) -> Iterator[str]:
    """Distributions with a licence that is unknown or not on the list."""
    for name, said in sorted(found.items()):
        if name in READ_BY_HAND or name == DISTRIBUTION:
            continue
        if not said:
            yield f"{name} does not say its licence"
        elif not any(ALLOWED.search(each) for each in said):
            yield f"{name}: {said[0].splitlines()[0]}"


def check_licences(release: Release) -> None:
    """Of all that a user installs with all extras."""
    with bare_environment(sys.executable, f"{built(release, '*.whl')}[{EXTRAS}]") as made:
        found = json.loads(run(made, "-I", "-c", LICENCES, cwd=made.parent))
    if problems := list(licence_problems(found)):
        raise CheckFailed("\n".join(problems))


# --- what users read


def check_commands(release: Release) -> None:
    """README, quickstart and demo, as users run them."""
    pages = "README.md or quickstart.md or test_the_demo or links or targets"
    run(sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/project/test_docs.py", "-k", pages)


def check_docs(release: Release) -> None:
    run(Path(sys.executable).with_name("mkdocs"), "build", "--strict")


def check_upgrades(release: Release) -> None:
    """This version's log is stored, and every stored log is taken over."""
    run(sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/versions/test_upgrades.py")


class Check(NamedTuple):
    """An item of the list."""

    name: str
    run: Callable[[Release], None]


def _install(version: str, what: str, pattern: str) -> Check:
    return Check(f"{what} on Python {version}", lambda release: check_install(release, version, pattern))


CHECKS = [
    Check("version, changelog and README agree", check_version),
    Check("nothing is left uncommitted", check_checkout),
    Check("wheel and sdist hold what they must", check_contents),
    *(_install(version, "wheel", "*.whl") for version in PYTHONS),
    *(_install(version, "sdist", "*.tar.gz") for version in PYTHONS[:1] + PYTHONS[-1:]),
    Check("licences of what a user installs", check_licences),
    Check("README, quickstart and demo run", check_commands),
    Check("the site builds, and its links lead somewhere", check_docs),
    Check("stored logs upgrade", check_upgrades),
]


def main() -> int:
    """Carry the list out; 1 when anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--final", action="store_true", help="want what only a release has, too")
    parser.add_argument("--only", default="", metavar="TEXT", help="only items with this in their names")
    options = parser.parse_args()
    version = re.search(r'^version = "(.+)"$', (CHECKOUT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    dist = Path(tempfile.mkdtemp(prefix="dist-"))
    failed = 0
    try:
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist)
        with run_server() as server:
            release = Release(version[1], options.final, dist, server)
            for check in CHECKS:
                if options.only not in check.name:
                    continue
                try:
                    check.run(release)
                except NotTested as exc:
                    print(f"NOT TESTED  {check.name}: {exc}", flush=True)
                except CheckFailed as exc:
                    failed += 1
                    print(f"FAILED      {check.name}\n{exc}", flush=True)
                else:
                    print(f"ok          {check.name}", flush=True)
    finally:
        shutil.rmtree(dist)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
