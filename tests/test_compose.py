"""docker-compose.yml and the Dockerfile, held without an engine: parsed and checked by name."""

import re
import tomllib
from typing import Any

import pytest
import typer
import yaml

from core.cli import app
from core.settings import SECTIONS
from tests.tables import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: part for name, part in COMPOSE["services"].items() if "build" in part}
# Read by libraries, not by us.
THEIRS = {"HF_HOME"}


@pytest.mark.parametrize("name", OURS)
def test_each_command_is_one_of_ours(name: str) -> None:
    command: Any = typer.main.get_command(app)
    for word in OURS[name]["command"]:
        assert word in command.commands, f"drawqueue has no {word}"
        command = command.commands[word]


@pytest.mark.parametrize("name", OURS)
def test_each_variable_is_a_setting(name: str) -> None:
    known = {field.alias for section in SECTIONS for field in section.model_fields.values()}
    assert set(OURS[name]["environment"]) <= known | THEIRS


def test_everything_needed_is_there() -> None:
    services = COMPOSE["services"]
    assert {
        "valkey",
        "postgres",
        "migrate",
        "web",
        "discord",
        "telegram",
        "worker",
        "dashboard",
    } <= set(services)
    for name in ("valkey", "postgres", "web", "dashboard"):
        assert services[name]["healthcheck"]["test"]
    devices = services["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]
    for part in services.values():
        for volume in part.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"]
        for needed in part.get("depends_on", {}):
            assert needed in services
        # Nothing is offered beyond this machine by default.
        assert all(port.startswith("127.0.0.1:") for port in part.get("ports", []))


def test_the_image_installs_declared_extras() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    dockerfile = (ROOT / "Dockerfile").read_text()
    parts = re.search(r"^ARG parts=(\S+)$", dockerfile, re.MULTILINE)
    assert parts
    asked = [parts[1]] + [
        part["build"]["args"]["parts"] for part in OURS.values() if isinstance(part["build"], dict)
    ]
    for line in asked:
        assert set(line.split(",")) <= set(extras)
    for folder in re.findall(r"^COPY (\S+) \1$", dockerfile, re.MULTILINE):
        assert (ROOT / folder).is_dir()
