"""Engine, transactions and declarative base shared by every table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Engine, MetaData, create_engine, event, exc, func, select
from sqlalchemy.engine import Dialect, ExceptionContext
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator

from levier.domain.errors import Conflict, StoreUnavailable

# Named constraints, so that Alembic can drop them on both SQLite and PostgreSQL.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """The root of all tables."""

    metadata = MetaData(naming_convention=NAMING)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on every database: SQLite forgets the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The value in UTC; a naive datetime is a defect and raises ValueError."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime given to the store")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """The stored instant, aware and in UTC."""
        if value is None:
            return None
        assert isinstance(value, datetime)  # noqa: S101 - guaranteed by the DateTime type below
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Many threads of a flow commit short transactions; they queue for a connection rather than fail.
IDLE_IN_TRANSACTION_S = 30
"""Half a lease. PostgreSQL manual, 20.11: the server ends the session, and with it the transaction."""
_POOL = {"pool_size": 10, "max_overflow": 20, "pool_timeout": 60}
# A server whose machine vanished sends no reset: a query would wait for TCP's own 15 min (PostgreSQL manual, 32.1.2).
_NOTICE = {"connect_timeout": 10, "tcp_user_timeout": 30_000, "keepalives_idle": 10, "keepalives_interval": 5}


def open_engine(url: str) -> Engine:
    """An engine for `url` (`sqlite:////path` or `postgresql+psycopg://…`); SQLite in WAL mode with foreign keys.

    Writing transactions on SQLite begin IMMEDIATE, so that a read-then-write never fails half-way with "database is
    locked" (SQLite documentation, "Isolation In SQLite" and "Write-Ahead Logging").
    """
    if not url.startswith("sqlite"):
        engine = create_engine(url, pool_pre_ping=True, connect_args=_NOTICE, **_POOL)
        event.listen(engine, "handle_error", _forget_connections)
        event.listen(engine, "connect", _end_idle_transactions)
        return engine
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False}, **_POOL)
    event.listen(engine, "handle_error", _forget_connections)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy emits BEGIN itself, below
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        reading = connection.get_execution_options().get(_READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


_READ_ONLY = "levier_read_only"

_STALE = ("readonly", "read-only", "disk I/O error", "unable to open database file")


def _forget_connections(context: ExceptionContext) -> None:
    """Connections are opened anew after an error that may stay with them.

    SQLite opens a file that cannot be written for reading only, and that connection stays so when the file can be
    written again; a PostgreSQL server that became read-only may be a standby by now.
    """
    if any(sign in str(context.original_exception) for sign in _STALE):
        context.is_disconnect = True


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """One transaction, committed at the end, rolled back by any exception. No database error leaves it as such."""
    with domain_errors(), Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """One transaction that only reads: a consistent view, and on SQLite no waiting for writers."""
    options: dict[str, Any] = {_READ_ONLY: True}
    if engine.dialect.name == "postgresql":
        # So that the SELECTs of one fold all see the same log.
        options["isolation_level"] = "REPEATABLE READ"
    with (
        domain_errors(),
        engine.connect().execution_options(**options) as connection,
        Session(bind=connection) as session,
    ):
        yield session


def _end_idle_transactions(connection: Any, _record: Any) -> None:
    """A worker that is stopped in the middle of a write does not keep its rows from those who take over."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_S}s'")
    connection.commit()


def exclusive(session: Session, name: str) -> None:
    """No other transaction that asked for `name` runs until this one ends.

    For allocations ("the next number"), where there is no row to lock yet. On SQLite a writing transaction is alone
    anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))


@contextmanager
def domain_errors() -> Iterator[None]:
    """Database errors become domain errors: callers of the store never see SQLAlchemy."""
    try:
        yield
    except exc.IntegrityError as error:
        raise Conflict(f"another writer was faster: {error.orig}", hint="read the state again and repeat") from error
    except (exc.DBAPIError, exc.TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        raise StoreUnavailable(
            f"the database cannot be used: {_first_line(cause)}", hint=_way_out(str(cause)), lasting=_is_lasting(error)
        ) from error


def _first_line(cause: BaseException) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


_LASTING = (exc.ProgrammingError, exc.DataError, exc.NotSupportedError)


def _is_lasting(error: exc.SQLAlchemyError) -> bool:
    """Whether the same statement will fail again on the same, healthy, database: SQLite's class does not say so."""
    return isinstance(error, _LASTING) or "no such table" in str(error) or "no such column" in str(error)


def _way_out(cause: str) -> str:
    """The hint by what SQLite and PostgreSQL say."""
    if "no such table" in cause or "does not exist" in cause:
        return "the schema is missing or old: run `levier up`, which migrates it"
    if "full" in cause or "No space" in cause:
        return "make room on the file system of the database"
    if "readonly" in cause or "read-only" in cause:
        return "make the database writable for Levier's user"
    return "start the database or mend its URL; operations wait for it and go on by themselves"
