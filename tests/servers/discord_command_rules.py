"""What Discord refuses in the application commands a bot registers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tests.servers.discord_errors import ApiError, Json, Problems

# discord/discord-api-docs, reference.mdx: Locales
LOCALES = frozenset(
    "id da de en-GB en-US es-ES es-419 fr hr it lt hu nl no pl pt-BR ro fi sv-SE vi tr cs el bg ru "
    "uk hi th zh-CN ja zh-TW ko".split()
)


def _localized(node: Json, field: str) -> Iterator[tuple[str, str]]:
    """What a field is in other languages, by locale."""
    yield from (node.get(f"{field}_localizations") or {}).items()


def _text_size(node: Json) -> int:
    """The characters of a command; of each field those of its longest localization."""

    def most(one: Json, field: str) -> int:
        return max(len(one.get(field) or ""), *(len(text) for _, text in _localized(one, field)), 0)

    total = most(node, "name") + most(node, "description")
    for choice in node.get("choices") or []:
        total += most(choice, "name")
        total += len(choice["value"]) if isinstance(choice["value"], str) else 0
    return total + sum(_text_size(o) for o in node.get("options") or [])


def _is_name(name: str) -> bool:
    return bool(re.fullmatch(r"[-_'\w]{1,32}", name)) and name == name.lower()


def _check_localized(
    problems: Problems, path: str, node: Json, field: str, check: Callable[[str, str], None]
) -> None:
    """Hold each localization of a field to what `check` holds the field to."""
    for locale, text in _localized(node, field):
        here = f"{path}.{field}_localizations"
        if locale not in LOCALES:
            problems.add(here, "BASE_TYPE_CHOICES", f"{locale} is no locale.")
        check(f"{here}.{locale}", text)


def _check_words(problems: Problems, path: str, node: Json, field: str, most: int) -> None:
    """A field of words, and its localizations."""
    problems.length(f"{path}.{field}", node.get(field), 1, most)
    _check_localized(
        problems, path, node, field, lambda here, text: problems.length(here, text, 1, most)
    )


def _check_distinct(problems: Problems, path: str, options: list[Json]) -> None:
    """In no language an option bears another's name, nor another's default one."""
    for locale in sorted({locale for one in options for locale, _ in _localized(one, "name")}):
        for i, option in enumerate(options):
            name = dict(_localized(option, "name")).get(locale)
            others = [one for one in options if one is not option]
            taken = {one.get("name") for one in others}
            taken |= {dict(_localized(one, "name")).get(locale) for one in others}
            if name and name in taken:
                problems.add(
                    f"{path}.options.{i}.name_localizations.{locale}",
                    "APPLICATION_COMMAND_OPTIONS_NAME_ALREADY_EXISTS",
                    "Option name already exists",
                )


def _check_options(problems: Problems, path: str, options: list[Json]) -> None:
    problems.count(f"{path}.options", options, 0, 25)
    _check_distinct(problems, path, options)
    seen: set[str] = set()
    optional = False
    for i, option in enumerate(options):
        here = f"{path}.options.{i}"
        name = option.get("name") or ""

        def named(where: str, text: str) -> None:
            if not _is_name(text):
                problems.add(where, "STRING_TYPE_REGEX", "String value did not match regex.")

        named(f"{here}.name", name)
        _check_localized(problems, here, option, "name", named)
        if name in seen:
            problems.add(
                f"{here}.name",
                "APPLICATION_COMMAND_OPTIONS_NAME_ALREADY_EXISTS",
                "Option name already exists",
            )
        seen.add(name)
        _check_words(problems, here, option, "description", 100)
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
        _check_words(problems, f"{path}.{i}", choice, "name", 100)
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

            def named(where: str, text: str) -> None:
                if not _is_name(text):
                    problems.add(
                        where, "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid"
                    )

            named(f"{i}.name", name)
            _check_localized(problems, str(i), command, "name", named)
            _check_words(problems, str(i), command, "description", 100)
            _check_options(problems, str(i), command.get("options") or [])
        else:
            _check_words(problems, str(i), command, "name", 32)
            if command.get("description") or any(_localized(command, "description")):
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
