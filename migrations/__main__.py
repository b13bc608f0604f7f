"""`python -m migrations`: bring the database of the settings up to date."""

from core.settings import Storage, read
from migrations import migrate

if __name__ == "__main__":
    migrate(read(Storage).database)
