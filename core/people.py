"""What the house remembers of a person, by platform and id."""

from sqlalchemy import insert, select, update

from core.database import Database, people
from core.generations import Asker


class People:
    """The people who said something about themselves; everybody else has the defaults."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def quiet(self, platform: str, id_: str) -> bool:
        """Whether they asked not to be mentioned when a picture took long."""
        with self.database.read() as connection:
            found = connection.execute(
                select(people.c.quiet).where(people.c.platform == platform, people.c.id == id_)
            ).scalar()
        return bool(found)

    def turn_quiet(self, asker: Asker) -> bool:
        """Turn mentions off, or on again; answers whether they are off now."""
        mine = people.c.platform == asker.platform, people.c.id == asker.id
        with self.database.write() as connection:
            found = connection.execute(select(people.c.quiet).where(*mine)).scalar()
            if found is None:
                row = {"platform": asker.platform, "id": asker.id, "quiet": True}
                connection.execute(insert(people).values(row))
            else:
                connection.execute(update(people).where(*mine).values(quiet=not found))
        return not found
