"""What Discord refuses in the application commands a bot registers."""

from __future__ import annotations

import re

from tests.servers.discord_errors import ApiError, Json, Problems


def _text_size(node: Json) -> int:
    total = len(node.get("name") or "") + len(node.get("description") or "")
    for choice in node.get("choices") or []:
        total += len(choice["name"])
        total += len(choice["value"]) if isinstance(choice["value"], str) else 0
    return total + sum(_text_size(o) for o in node.get("options") or [])


def _check_options(problems: Problems, path: str, options: list[Json]) -> None:
    problems.count(f"{path}.options", options, 0, 25)
    seen: set[str] = set()
    optional = False
    for i, option in enumerate(options):
        here = f"{path}.options.{i}"
        name = option.get("name") or ""
        if not re.fullmatch(r"[-_'\w]{1,32}", name) or name != name.lower():
            problems.add(f"{here}.name", "STRING_TYPE_REGEX", "String value did not match regex.")
        if name in seen:
            problems.add(
                f"{here}.name",
                "APPLICATION_COMMAND_OPTIONS_NAME_ALREADY_EXISTS",
                "Option name already exists",
            )
        seen.add(name)
        problems.length(f"{here}.description", option.get("description"), 1, 100)
        kind = int(option.get("type") or 0)
        if kind not in range(1, 12):
            problems.add(f"{here}.type", "BASE_TYPE_CHOICES", "Value must be one of 1 to 11.")
            continue
        if kind in (1, 2):
            _check_options(problems, here, option.get("options") or [])
            continue
        if option.get("required") and optional:
            problems.add(
                here,
                "APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID",
                "Required options must be placed before non-required options",
            )
        optional = optional or not option.get("required")
        choices = option.get("choices") or []
        if choices and option.get("autocomplete"):
            problems.add(
                here, "APPLICATION_COMMAND_OPTIONS_CHOICES", "No choices with autocomplete"
            )
        check_choices(problems, f"{here}.choices", choices, kind)


def check_choices(problems: Problems, path: str, choices: list[Json], kind: int) -> None:
    """Choices of an option, or those an autocompletion answers."""
    problems.count(path, choices, 0, 25)
    for i, choice in enumerate(choices):
        problems.length(f"{path}.{i}.name", choice.get("name"), 1, 100)
        value = choice.get("value")
        if kind == 3:
            problems.length(f"{path}.{i}.value", value, 0, 100)
        elif isinstance(value, bool) or not isinstance(value, int if kind == 4 else (int, float)):
            problems.add(f"{path}.{i}.value", "NUMBER_TYPE_COERCE", "Value is not a number.")


def check_commands(commands: list[Json]) -> None:
    """Refuse a set of commands the platform would refuse."""
    by_kind: dict[int, int] = {}
    for command in commands:
        by_kind[command.get("type", 1)] = by_kind.get(command.get("type", 1), 0) + 1
    for kind, most in ((1, 100), (2, 15), (3, 15)):
        if by_kind.get(kind, 0) > most:
            text = f"Maximum number of application commands reached ({most})."
            raise ApiError(400, 30032, text)
    problems = Problems()
    seen: set[tuple[int, str]] = set()
    for i, command in enumerate(commands):
        kind, name = command.get("type", 1), command.get("name") or ""
        if kind == 1:
            if not re.fullmatch(r"[-_'\w]{1,32}", name) or name != name.lower():
                problems.add(
                    f"{i}.name",
                    "APPLICATION_COMMAND_INVALID_NAME",
                    "Command name is invalid",
                )
            problems.length(f"{i}.description", command.get("description"), 1, 100)
            _check_options(problems, str(i), command.get("options") or [])
        else:
            problems.length(f"{i}.name", name, 1, 32)
            if command.get("description"):
                problems.add(
                    f"{i}.description",
                    "APPLICATION_COMMAND_CONTEXT_MENU_DESCRIPTION",
                    "Context menu commands cannot have description",
                )
            if command.get("options"):
                problems.add(
                    f"{i}.options",
                    "APPLICATION_COMMAND_CONTEXT_MENU_OPTIONS",
                    "Context menu commands cannot have options",
                )
        if (kind, name) in seen:
            problems.add(
                f"{i}",
                "APPLICATION_COMMANDS_DUPLICATE_NAME",
                "Application command names must be unique",
            )
        seen.add((kind, name))
        if _text_size(command) > 8000:
            problems.add(
                f"{i}",
                "APPLICATION_COMMAND_TOO_LARGE",
                "Command exceeds maximum size (8000)",
            )
    problems.done()
