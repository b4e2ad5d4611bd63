"""What there is of databases and their users, and SQL for what is not. Pure.

Texts hold references to secrets and are handed over on standard input: no argument list and no log shows a password.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from levier.domain.component import Database
from levier.services.components.secret_references import reference


@dataclass(frozen=True, slots=True)
class Present:
    """What there is of it."""

    databases: frozenset[str] = frozenset()
    users: Mapping[str, bool] = field(default_factory=dict)
    """User → whether the password is the secret's."""
    rights: frozenset[tuple[str, str]] = frozenset()
    """User and database in which the user may do everything."""


def question(databases: Sequence[Database]) -> str:
    """SQL that lists every database, and which of the users there are; `understood` reads the answer.

    MariaDB keeps of a password what its function PASSWORD makes of it (plugin mysql_native_password, its default). Seen
    with 10.11.
    """
    text = ["SELECT 'database', schema_name FROM information_schema.schemata;\n"]
    for user, secret in {each.user: each.secret for each in databases}.items():
        same = f"BINARY authentication_string = BINARY PASSWORD({reference(secret, 'password', 'sql')})"
        # A user's name is a word.
        text.append(f"SELECT 'user', User, {same} FROM mysql.user WHERE Host = '%' AND User = '{user}';\n")  # noqa: S608
    return "".join(text)


def rights_question(present: Present) -> str:
    """SQL that lists what each user who is there may do; `understood` reads the answer."""
    return "".join(f"SELECT 'rights', '{user}';\nSHOW GRANTS FOR '{user}'@'%';\n" for user in present.users)


def understood(answer: str, databases: Sequence[Database]) -> Present:
    """What MariaDB answered to `question` and to `rights_question`, columns separated by tabs."""
    found: set[str] = set()
    users: dict[str, bool] = {}
    rights: set[tuple[str, str]] = set()
    user = ""
    for line in answer.splitlines():
        kind, *values = line.split("\t")
        if kind == "database":
            found.add(values[0])
        elif kind == "user":
            users[values[0]] = values[1] == "1"
        elif kind == "rights":
            user = values[0]
        else:
            rights |= {(user, each.name) for each in databases if line.startswith(_everything_in(each.name))}
    return Present(frozenset(found), users, frozenset(rights))


def missing(databases: Sequence[Database], present: Present) -> tuple[tuple[str, ...], str]:
    """What is to be changed, in words, and the SQL after which nothing is. The SQL is safe to repeat."""
    words, text = [], []
    for user, secret in {each.user: each.secret for each in databases}.items():
        account, password = f"'{user}'@'%'", reference(secret, "password", "sql")
        if not present.users.get(user, False):
            words.append(f"password of {user}" if user in present.users else f"user {user}")
            text.append(f"CREATE USER IF NOT EXISTS {account};\nALTER USER {account} IDENTIFIED BY {password};\n")
    for each in databases:
        if each.name not in present.databases:
            words.append(each.name)
            text.append(f"CREATE DATABASE IF NOT EXISTS `{each.name}` CHARACTER SET utf8mb4;\n")
        if (each.user, each.name) not in present.rights:
            words += [f"rights of {each.user} in {each.name}"] if each.name in present.databases else []
            text.append(f"{_everything_in(each.name)}'{each.user}'@'%';\n")
    return tuple(words), "".join(text)


def _everything_in(database: str) -> str:
    """As a grant is said and as it is shown. Rights that a newer MariaDB adds are missing then, and granted."""
    return f"GRANT ALL PRIVILEGES ON `{database}`.* TO "
