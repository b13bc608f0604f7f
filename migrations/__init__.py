"""Alembic migrations and the call that runs them."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def migrate(url: str, target: str = "head") -> None:
    """Bring a database to a revision; several processes may call this at once."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = url
    command.upgrade(config, target)
