"""The words of prompts, found quickly; what was deleted; whose child a picture is."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import OperationalError

from core.database import Moment

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SIGNS = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~«»·–—‘’“”…、。，"
WORDS = (
    "(to_tsvector('simple', translate(request ->> 'prompt', "
    f"'{SIGNS.replace(chr(39), chr(39) * 2)}', '{' ' * len(SIGNS)}')) "
    "|| array_to_tsvector(ARRAY['by:' || person, 'in:' || chat]))"
)
# PostgreSQL keeps a NUL in JSON and cannot read it again: a backslash before it is not doubled.
NO_NUL = r"""
UPDATE generations
SET request = regexp_replace(request::text, '(?<!\\)((?:\\\\)*)\\u0000', '\1', 'g')::json
WHERE strpos(request::text, '\u0000') > 0
"""
OLD = "VALUES ('delete', old.id, json_extract(old.request, '$.prompt'));"
NEW = "VALUES (new.id, json_extract(new.request, '$.prompt'));"
TRIGGERS = (
    "CREATE TRIGGER prompts_new AFTER INSERT ON generations BEGIN "
    f"INSERT INTO prompts (rowid, prompt) {NEW} END",
    "CREATE TRIGGER prompts_gone AFTER DELETE ON generations BEGIN "
    f"INSERT INTO prompts (prompts, rowid, prompt) {OLD} END",
    "CREATE TRIGGER prompts_changed AFTER UPDATE OF request ON generations BEGIN "
    f"INSERT INTO prompts (prompts, rowid, prompt) {OLD} INSERT INTO prompts (rowid, prompt) {NEW} "
    "END",
)


def upgrade() -> None:
    # Both of these leave the table where it is: SQLite would lose the triggers of a copied one.
    op.add_column("generations", sa.Column("deleted", Moment))
    op.create_index("ix_generations_parent", "generations", ["parent"])
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(NO_NUL)
        connection.exec_driver_sql(
            f"CREATE INDEX ix_generations_words ON generations USING gin ({WORDS}) "
            "WITH (fastupdate = off)"
        )
        return
    try:
        connection.exec_driver_sql(
            "CREATE VIRTUAL TABLE prompts USING fts5("
            "prompt, content='', tokenize='unicode61 remove_diacritics 0')"
        )
    except OperationalError:
        return  # A SQLite without FTS5 looks at one prompt after the other.
    connection.exec_driver_sql(
        "INSERT INTO prompts (rowid, prompt) "
        "SELECT id, json_extract(request, '$.prompt') FROM generations"
    )
    for trigger in TRIGGERS:
        connection.exec_driver_sql(trigger)


def downgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        op.drop_index("ix_generations_words", table_name="generations")
    else:
        for name in ("prompts_new", "prompts_gone", "prompts_changed"):
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
        connection.exec_driver_sql("DROP TABLE IF EXISTS prompts")
    op.drop_index("ix_generations_parent", table_name="generations")
    with op.batch_alter_table("generations") as table:
        table.drop_column("deleted")
