"""The shape of the house: import arrows, start-up imports, derived tables, migrations."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tables import ROOT, expected

# Which of our rooms a room may import.
ARROWS = {
    "core": {"core"},
    "bots": {"core", "bots"},
    "worker": {"core", "worker", "bots.poster"},
    "migrations": {"core", "migrations"},
}
# Libraries that core must not know.
FOREIGN = {"discord", "telegram", "fastapi", "starlette", "torch", "diffusers", "transformers"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


@pytest.mark.parametrize("room", ARROWS)
def test_arrows_run_one_way(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        for name in imports(path):
            if name.split(".")[0] in ARROWS:
                allowed = ARROWS[room]
                assert any(name == a or name.startswith(a + ".") for a in allowed), (path, name)
            if room == "core":
                assert name.split(".")[0] not in FOREIGN, (path, name)


@pytest.mark.parametrize(
    "module", [p.stem for p in sorted((ROOT / "bots").glob("*.py")) if p.stem != "__init__"]
)
def test_bots_never_import_torch(module: str) -> None:
    code = (
        f"import sys, bots.{module}; "
        "bad = {'torch', 'diffusers', 'transformers', 'worker'} & set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_worker_parent_never_imports_torch() -> None:
    code = "import sys, worker.__main__; assert not {'torch', 'diffusers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_core_imports_quickly() -> None:
    # A ratio to a bare interpreter in the same run: these machines are noisy.
    code = (
        "import time; a = time.perf_counter(); import core.commands; print(time.perf_counter() - a)"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 1.5


def test_derived_files_are_up_to_date() -> None:
    for path, text in expected().items():
        assert path.read_text() == text, f"{path.name} is stale: run `make tables`"
