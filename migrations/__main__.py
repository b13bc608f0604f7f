"""`python -m migrations`: bring the database of the settings up to date."""

import sys

from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from core.database import unusable
from core.settings import Storage, read
from migrations import migrate

if __name__ == "__main__":
    try:
        migrate(read(Storage).database)
    except CommandError:
        sys.exit("The database was made by a newer Drawqueue; install that one.")
    except (SQLAlchemyError, ModuleNotFoundError, ValueError, OSError) as error:
        sys.exit(unusable(error))
