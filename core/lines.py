"""In which line a request stands, by who draws or writes it, and whether they still do."""

from collections.abc import Iterable

from core import catalog
from core.catalog import every_model, models
from core.errors import InvalidOptions
from core.options import Mode, Request
from core.providers import PROVIDERS
from core.queue import DRAW, OURS, WRITE
from core.writers import captioners, gone, writers


def still_offered(requests: Iterable[Request]) -> None:
    """Raises InvalidOptions for a request of old whose model or parts are gone since."""
    asked = list(requests)
    if faults := [fault for one in asked for fault in gone(one)]:
        raise InvalidOptions(faults)
    catalog.still_offered(asked)


def line_of(request: Request) -> str:
    """The line of those that the same machines draw or write."""
    if request.enhance or request.mode.words:
        found = {**writers(), **captioners()}.get(request.enhance or request.model)
        return found.engine if found and found.engine in PROVIDERS else WRITE
    model = models().get(request.model) or every_model().get(request.model)
    if model is None or model.engine not in PROVIDERS:
        return DRAW
    # A GPU makes pictures larger, whoever drew them; without one their own line does.
    if request.mode == Mode.UPSCALE and any(
        one.engine not in PROVIDERS for one in every_model().values()
    ):
        return DRAW
    return model.engine


def hosts_own(line: str) -> bool:
    """Whether what stands in a line is made on the host's own machines, servers at home too."""
    return line in OURS or (line in PROVIDERS and PROVIDERS[line].home)


def titled(line: str) -> str:
    """What people call the engine whose line it is."""
    return PROVIDERS[line].title if line in PROVIDERS else line
