"""How Discord refuses: errors as the platform words them, no network."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class ApiError(Exception):
    """An answer other than success, as the platform words it."""

    def __init__(self, status: int, code: int, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"message": message, "code": code, **extra}


def unknown(what: str) -> ApiError:
    """The 404 of a named kind of thing."""
    codes = {"Channel": 10003, "Guild": 10004, "Message": 10008, "User": 10013, "Member": 10007}
    codes |= {"Webhook": 10015, "Interaction": 10062, "application command": 10063}
    return ApiError(404, codes[what], f"Unknown {what}")


class Problems:
    """Collects the nested errors of an Invalid Form Body."""

    def __init__(self) -> None:
        self.tree: Json = {}

    def add(self, path: str, code: str, message: str) -> None:
        """Note one error at a dotted path."""
        node = self.tree
        for part in path.split("."):
            node = node.setdefault(part, {})
        node.setdefault("_errors", []).append({"code": code, "message": message})

    def length(self, path: str, value: Any, low: int, high: int) -> None:
        """A string must be low to high characters long."""
        if not isinstance(value, str):
            code = "BASE_TYPE_REQUIRED" if value is None else "STRING_TYPE_CONVERT"
            self.add(path, code, "This field is required")
        elif len(value) < low and not value:
            self.add(path, "BASE_TYPE_REQUIRED", "This field is required")
        elif not low <= len(value) <= high:
            if low:
                message = f"Must be between {low} and {high} in length."
                self.add(path, "BASE_TYPE_BAD_LENGTH", message)
            else:
                message = f"Must be {high} or fewer in length."
                self.add(path, "BASE_TYPE_MAX_LENGTH", message)

    def count(self, path: str, value: list[Any], low: int, high: int) -> None:
        """A list must have low to high entries."""
        if not low <= len(value) <= high:
            message = f"Must be between {low} and {high} in length."
            self.add(path, "BASE_TYPE_BAD_LENGTH", message)

    def done(self) -> None:
        """Refuse if anything was noted."""
        if self.tree:
            raise ApiError(400, 50035, "Invalid Form Body", errors=self.tree)


def invalid(path: str, code: str, message: str) -> ApiError:
    """A form error at one place."""
    problems = Problems()
    problems.add(path, code, message)
    return ApiError(400, 50035, "Invalid Form Body", errors=problems.tree)
