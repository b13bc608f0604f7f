"""Which names of the environment are settings, and which are not."""

import pytest

from core.settings import SECTIONS


def test_only_the_documented_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """`HOME` and `USER` are everybody's, and `PORT` or `TOKEN` some other program's."""
    before = [section() for section in SECTIONS]
    names = {name for section in SECTIONS for name in section.model_fields}
    documented = {str(f.alias) for section in SECTIONS for f in section.model_fields.values()}
    assert {"home", "user", "port", "token"} <= names
    for name in names - {alias.lower() for alias in documented}:
        monkeypatch.setenv(name.upper(), "17")
    assert [section() for section in SECTIONS] == before


def test_a_documented_name_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for section in SECTIONS:
        for name, field in section.model_fields.items():
            default = field.get_default()
            value = "17" if isinstance(default, int) and not isinstance(default, bool) else "true"
            monkeypatch.setenv(str(field.alias), value)
            assert getattr(section(), name) != default, field.alias
            monkeypatch.delenv(str(field.alias))
