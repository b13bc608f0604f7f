"""What Discord refuses in a message's components, embeds and mentions, and in a modal."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.servers.discord_errors import Json, Problems


def walk(components: list[Json]) -> Iterator[Json]:
    """Every component, however deep."""
    for part in components:
        yield part
        inner = list(part.get("components") or [])
        inner += [part[k] for k in ("accessory", "component") if part.get(k)]
        yield from walk(inner)


def _check_interactive(problems: Problems, here: str, part: Json, seen: set[str]) -> None:
    kind, style = part["type"], part.get("style")
    if kind == 2 and style not in range(1, 7):
        problems.add(f"{here}.style", "BASE_TYPE_CHOICES", "Value must be one of 1 to 6.")
    if kind == 2 and style == 5:
        problems.length(f"{here}.url", part.get("url"), 1, 512)
    elif not (kind == 2 and style == 6):
        problems.length(f"{here}.custom_id", part.get("custom_id"), 1, 100)
        if part.get("custom_id") in seen:
            problems.add(
                f"{here}.custom_id",
                "COMPONENT_CUSTOM_ID_DUPLICATED",
                "Component custom id cannot be duplicated",
            )
        seen.add(part.get("custom_id") or "")
    if kind == 2 and style != 6:
        if part.get("label"):
            problems.length(f"{here}.label", part["label"], 1, 80)
        elif not part.get("emoji"):
            problems.add(f"{here}.label", "BASE_TYPE_REQUIRED", "This field is required")
    if kind == 3:
        options = part.get("options") or []
        problems.count(f"{here}.options", options, 1, 25)
        for i, option in enumerate(options):
            problems.length(f"{here}.options.{i}.label", option.get("label"), 1, 100)
            problems.length(f"{here}.options.{i}.value", option.get("value"), 1, 100)
    if kind != 2 and part.get("placeholder"):
        problems.length(f"{here}.placeholder", part["placeholder"], 1, 150)


def _check_tree(
    problems: Problems, path: str, parts: list[Json], seen: set[str], allowed: set[int]
) -> None:
    for i, part in enumerate(parts):
        here, kind = f"{path}.{i}", part.get("type")
        if kind not in allowed:
            message = f'Value of field "type" must be one of {sorted(allowed)}.'
            problems.add(f"{here}.type", "UNION_TYPE_CHOICES", message)
            continue
        if kind == 1:
            inner = part.get("components") or []
            problems.count(f"{here}.components", inner, 1, 5)
            if any(p.get("type") != 2 for p in inner) and len(inner) > 1:
                problems.add(
                    f"{here}.components",
                    "COMPONENT_LAYOUT_WIDTH_EXCEEDED",
                    "The specified component exceeds the maximum width",
                )
            _check_tree(problems, f"{here}.components", inner, seen, {2, 3, 5, 6, 7, 8})
        elif kind in (2, 3, 5, 6, 7, 8):
            _check_interactive(problems, here, part, seen)
        elif kind == 9:
            inner = part.get("components") or []
            problems.count(f"{here}.components", inner, 1, 3)
            _check_tree(problems, f"{here}.components", inner, seen, {10})
            _check_tree(problems, f"{here}.accessory", [part.get("accessory") or {}], seen, {2, 11})
        elif kind == 10:
            problems.length(f"{here}.content", part.get("content"), 1, 4000)
        elif kind == 11 and part.get("description"):
            problems.length(f"{here}.description", part["description"], 0, 1024)
        elif kind == 12:
            items = part.get("items") or []
            problems.count(f"{here}.items", items, 1, 10)
            for n, item in enumerate(items):
                if item.get("description"):
                    problems.length(f"{here}.items.{n}.description", item["description"], 0, 1024)
        elif kind == 17:
            inner = part.get("components") or []
            problems.count(f"{here}.components", inner, 1, 40)
            _check_tree(problems, f"{here}.components", inner, seen, {1, 9, 10, 12, 13, 14})


def check_components(problems: Problems, components: list[Json], v2: bool) -> None:
    """Layout, widths, custom ids and lengths."""
    every = list(walk(components))
    if v2:
        if len(every) > 40:
            problems.add(
                "components",
                "COMPONENT_MAX_TOTAL_COMPONENTS_EXCEEDED",
                "The maximum number of components (40) has been exceeded",
            )
        if sum(len(p.get("content") or "") for p in every if p.get("type") == 10) > 4000:
            problems.add(
                "components",
                "COMPONENT_DISPLAYABLE_TEXT_SIZE_EXCEEDED",
                "Total displayable text size of components exceeds maximum size of 4000",
            )
        allowed = {1, 9, 10, 12, 13, 14, 17}
    else:
        problems.count("components", components, 0, 5)
        allowed = {1}
    _check_tree(problems, "components", components, set(), allowed)


def check_embeds(problems: Problems, embeds: list[Json]) -> None:
    """Each field's length, and 6000 characters in all."""
    problems.count("embeds", embeds, 0, 10)
    total = 0
    for i, embed in enumerate(embeds):
        here = f"embeds.{i}"
        parts = [(f"{here}.title", embed.get("title"), 256)]
        parts.append((f"{here}.description", embed.get("description"), 4096))
        parts.append((f"{here}.footer.text", (embed.get("footer") or {}).get("text"), 2048))
        parts.append((f"{here}.author.name", (embed.get("author") or {}).get("name"), 256))
        fields = embed.get("fields") or []
        problems.count(f"{here}.fields", fields, 0, 25)
        for n, item in enumerate(fields):
            for key, high in (("name", 256), ("value", 1024)):
                problems.length(f"{here}.fields.{n}.{key}", item.get(key), 1, high)
                total += len(item.get(key) or "")
        for path, value, high in parts:
            if value is not None:
                problems.length(path, value, 0, high)
                total += len(value)
        for key in ("image", "thumbnail"):
            url = (embed.get(key) or {}).get("url")
            if url and not re.match(r"(https?|attachment)://.", url):
                problems.add(f"{here}.{key}.url", "URL_TYPE_INVALID_URL", "Not a well formed URL.")
    if total > 6000:
        problems.add("embeds", "MAX_EMBED_SIZE_EXCEEDED", "Embed size exceeds maximum size of 6000")


def check_mentions(problems: Problems, allowed: Json | None) -> None:
    """allowed_mentions must not say the same thing twice."""
    for kind in ("users", "roles"):
        listed = (allowed or {}).get(kind) or []
        if len(listed) > 100:
            problems.add(f"allowed_mentions.{kind}", "BASE_TYPE_MAX_LENGTH", "Must be 100 or fewer")
        if listed and kind in ((allowed or {}).get("parse") or []):
            problems.add(
                "allowed_mentions",
                "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE",
                f'parse:["{kind}"] and {kind}: [ids...] are mutually exclusive.',
            )


# What a modal's label may hold: inputs, selects, files, radios and checkboxes.
LABELLED = frozenset({3, 4, 5, 6, 7, 8, 19, 21, 22, 23})


def _check_text_input(problems: Problems, here: str, part: Json) -> None:
    if part.get("style") not in (1, 2):
        problems.add(f"{here}.style", "BASE_TYPE_CHOICES", "Value must be one of (1, 2).")
    low, high = part.get("min_length"), part.get("max_length")
    if low is not None and not 0 <= low <= 4000:
        problems.add(f"{here}.min_length", "NUMBER_TYPE_MAX", "Must be from 0 to 4000.")
    if high is not None and not 1 <= high <= 4000:
        problems.add(f"{here}.max_length", "NUMBER_TYPE_MAX", "Must be from 1 to 4000.")
    if part.get("value"):
        problems.length(f"{here}.value", part["value"], 0, high or 4000)
    if part.get("placeholder"):
        problems.length(f"{here}.placeholder", part["placeholder"], 0, 100)


def check_modal(data: Json) -> None:
    """A modal as an answer to an interaction."""
    problems = Problems()
    problems.length("data.title", data.get("title"), 1, 45)
    problems.length("data.custom_id", data.get("custom_id"), 1, 100)
    parts = data.get("components") or []
    problems.count("data.components", parts, 1, 5)
    seen: set[str] = set()
    for i, part in enumerate(parts):
        here, kind = f"data.components.{i}", part.get("type")
        if kind not in (1, 10, 18):
            problems.add(f"{here}.type", "UNION_TYPE_CHOICES", "Must be one of (1, 10, 18).")
        if kind == 18:
            problems.length(f"{here}.label", part.get("label"), 1, 45)
            if part.get("description"):
                problems.length(f"{here}.description", part["description"], 0, 100)
            inner = part.get("component") or {}
            if inner.get("type") not in LABELLED:
                text = f'Value of field "type" must be one of {sorted(LABELLED)}.'
                problems.add(f"{here}.component.type", "UNION_TYPE_CHOICES", text)
        elif kind == 1:
            inner_parts = part.get("components") or []
            problems.count(f"{here}.components", inner_parts, 1, 1)
            if any(inner.get("type") != 4 for inner in inner_parts):
                text = "Only text inputs stand in a modal's rows."
                problems.add(f"{here}.components.0.type", "UNION_TYPE_CHOICES", text)
        for field_ in walk([part]):
            if field_.get("type") == 4:
                _check_text_input(problems, here, field_)
                if kind == 1:
                    problems.length(f"{here}.label", field_.get("label"), 1, 45)
            if "custom_id" not in field_:
                continue
            problems.length(f"{here}.custom_id", field_["custom_id"], 1, 100)
            if field_["custom_id"] in seen:
                problems.add(
                    f"{here}.custom_id",
                    "COMPONENT_CUSTOM_ID_DUPLICATED",
                    "Component custom id cannot be duplicated",
                )
            seen.add(field_["custom_id"])
    problems.done()
