"""How databases and users of the message queue come, go and are dumped, as text for a host's shell.

Texts hold references to secrets and are handed over on standard input: no argument list and no log shows a password.
"""

from __future__ import annotations

import shlex

from levier.domain.component import Database, MessageQueueUser
from levier.services.components.secret_references import reference


def database_statements(database: Database) -> str:
    """SQL after which the database and its user exist and the password is the secret's. Safe to repeat. Pure."""
    password = reference(database.secret, "password", "sql")
    user = f"'{database.user}'@'%'"
    return (
        f"CREATE DATABASE IF NOT EXISTS `{database.name}` CHARACTER SET utf8mb4;\n"
        f"CREATE USER IF NOT EXISTS {user};\n"
        f"ALTER USER {user} IDENTIFIED BY {password};\n"
        f"GRANT ALL PRIVILEGES ON `{database.name}`.* TO {user};\n"
    )


def database_removal(database: Database) -> str:
    """SQL after which the database does not exist; its user neither, unless another database is his. Pure."""
    return f"DROP DATABASE IF EXISTS `{database.name}`;\nDROP USER IF EXISTS '{database.user}'@'%';\n"


def database_dump(name: str, file: str) -> str:
    """Shell text after which `file` holds a complete, consistent dump of the database, readable by root only.

    The file appears when it is complete. Safe to repeat: a later dump replaces it. Pure.
    """
    path = shlex.quote(file)
    dump = "mariadb-dump --single-transaction --routines --triggers --add-drop-database"
    return (
        "set -eu\numask 077\n"
        f'mkdir -p "$(dirname {path})"\n'
        f"{dump} --databases {shlex.quote(name)} > {path}.part\nsync {path}.part\nmv {path}.part {path}\n"
    )


def database_restore(file: str) -> str:
    """Shell text after which the database is what the dump in `file` says. Safe to repeat. Pure."""
    return f"set -eu\nexec mariadb < {shlex.quote(file)}\n"


def schema_version(name: str) -> str:
    """Shell text that prints the version of the database's schema as alembic notes it; nothing without one. Pure.

    Every service of OpenStack keeps it in the table `alembic_version` (alembic's default).
    """
    query = (  # names of databases are words, checked when the component was read
        "SELECT IF(COUNT(*), 'SELECT version_num FROM `{0}`.alembic_version ORDER BY 1', 'DO 0') "
        "FROM information_schema.tables WHERE table_schema = '{0}' AND table_name = 'alembic_version'"
    ).replace("{0}", name)
    return f"set -eu\nmariadb -BN -e {shlex.quote(query)} | mariadb -BN\n"


def message_queue_script(user: MessageQueueUser) -> str:
    """Shell text after which the user exists, has the secret's password and may do everything in his virtual host.

    Hand it to `sh` on standard input. Safe to repeat. Pure.
    """
    name, vhost = shlex.quote(user.user), shlex.quote(user.vhost)
    password = reference(user.secret, "password", "shell")
    return (
        "set -eu\n"
        # printf is the shell's own: no process list shows its arguments. rabbitmqctl reads the password from its input.
        f"rabbitmqctl --quiet list_vhosts --no-table-headers | grep -qxF -- {vhost}"
        f" || rabbitmqctl --quiet add_vhost {vhost}\n"
        f"if rabbitmqctl --quiet list_users --no-table-headers | cut -f1 | grep -qxF -- {name}; then\n"
        f"  printf '%s\\n' {password} | rabbitmqctl --quiet change_password {name}\n"
        f"else\n  printf '%s\\n' {password} | rabbitmqctl --quiet add_user {name}\nfi\n"
        f"rabbitmqctl --quiet set_permissions -p {vhost} {name} '.*' '.*' '.*'\n"
    )


def message_queue_removal(user: MessageQueueUser) -> str:
    """Shell text after which the user does not exist. Safe to repeat. Pure."""
    name = shlex.quote(user.user)
    return (
        "set -eu\n"
        f"if rabbitmqctl --quiet list_users --no-table-headers | cut -f1 | grep -qxF -- {name}; then\n"
        f"  rabbitmqctl --quiet delete_user {name}\nfi\n"
    )
