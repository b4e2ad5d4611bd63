"""How databases and users of the message queue come, go and are dumped, as text for a host's shell.

Texts hold references to secrets and are handed over on standard input: no argument list and no log shows a password.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from levier.domain.component import Database, MessageQueueUser
from levier.services.components.secret_references import reference


def database_removal(database: Database) -> str:
    """SQL after which the database does not exist; its user neither, unless another database is his. Pure."""
    return f"DROP DATABASE IF EXISTS `{database.name}`;\nDROP USER IF EXISTS '{database.user}'@'%';\n"


def database_dump(name: str, file: str) -> str:
    """Shell text after which `file` holds a complete, consistent dump of the database, readable by root only.

    Beside it lies `file`.schema with the schema of then. The file appears when both are complete. Safe to repeat: a
    dump that is there stays as it is, for it is the one of before the first attempt. Pure.
    """
    path = shlex.quote(file)
    dump = "mariadb-dump --single-transaction --routines --triggers --add-drop-database"
    return (
        f"set -eu\numask 077\n{_alone(name)}\n[ ! -e {path} ] || exit 0\n"
        f'mkdir -p "$(dirname {path})"\n'
        f"{_SCHEMA}schema {shlex.quote(name)} > {path}.schema\n"
        f"{dump} --databases {shlex.quote(name)} > {path}.part\n"
        f"sync {path}.part {path}.schema\nmv {path}.part {path}\n"
    )


def database_restore(name: str, file: str) -> str:
    """Shell text after which the database is what the dump in `file` says. Safe to repeat. Pure."""
    return f"set -eu\n{_alone(name)}\nmariadb < {shlex.quote(file)}\n"


def _alone(name: str) -> str:
    """Shell text: what follows goes on when no other dump of the database, of a worker that died, is at work."""
    return f"exec 9> /run/levier-database-{name}.lock\nflock 9"


def schema_comparison(name: str, file: str) -> str:
    """Shell text that prints `same`, or `changed` when the schema is not the one of the dump in `file`. Pure.

    A schema is its tables, and the version that alembic notes in the table `alembic_version` (alembic's default). A
    change that was broken off half-way is one.
    """
    return (
        f"set -eu\n{_SCHEMA}now=$(schema {shlex.quote(name)})\n"
        f'if [ "$now" = "$(cat {shlex.quote(file)}.schema)" ]; then echo same; else echo changed; fi\n'
    )


_SCHEMA = r"""schema() {
    tables=$(mariadb-dump --no-data --routines --triggers --skip-comments --databases "$1")
    # Of a table the next number of a row is told too, which is data.
    printf '%s' "$tables" | sed 's/ AUTO_INCREMENT=[0-9]*//' | sha256sum
    noted=$(mariadb -BN -e "SELECT COUNT(*) FROM information_schema.tables
        WHERE table_schema = '$1' AND table_name = 'alembic_version'")
    if [ "$noted" != 0 ]; then mariadb -BN -e "SELECT version_num FROM \`$1\`.alembic_version ORDER BY 1"; fi
}
"""


def message_queue_script(user: MessageQueueUser) -> str:
    """Shell text after which the user exists, has the secret's password and may do everything in his virtual host.

    It prints a line for each thing that it had to change. Hand it to `sh` on standard input. Safe to repeat. Pure.
    Source: `authenticate_user` reads a password that is no argument (rabbitmq_cli, authenticate_user_command.ex).
    """
    name, vhost, rights = shlex.quote(user.user), shlex.quote(user.vhost), shlex.quote(f"{user.vhost}\t.*\t.*\t.*")
    # printf is the shell's own: no process list shows its arguments.
    password = f"printf '%s\\n' {reference(user.secret, 'password', 'shell')}"
    return (
        # Whatever is not given a password would swallow the rest of this text.
        'set -eu\nctl() { rabbitmqctl --quiet "$@"; }\nask() { ctl "$@" --no-table-headers < /dev/null; }\n'
        'act() { ctl "$@" > /dev/null; }\ntell() { printf \'%s\\n\' "$*"; }\n'
        f"if ! ask list_vhosts | grep -qxF -- {vhost}; then\n"
        f"  act add_vhost {vhost} < /dev/null\n  tell virtual host {vhost}\nfi\n"
        f"if ! ask list_users | cut -f1 | grep -qxF -- {name}; then\n"
        f"  {password} | act add_user {name}\n  tell user {name}\n"
        f"elif ! {password} | act authenticate_user {name} 2> /dev/null; then\n"
        f"  {password} | act change_password {name}\n  tell password of {name}\nfi\n"
        f"if ! ask list_user_permissions {name} | grep -qxF -- {rights}; then\n"
        f"  act set_permissions -p {vhost} {name} '.*' '.*' '.*' < /dev/null\n  tell rights of {name} in {vhost}\nfi\n"
    )


def own_virtual_hosts(users: Iterable[MessageQueueUser]) -> frozenset[str]:
    """Virtual hosts that are the component's to make. Pure. RabbitMQ brings `/` along."""
    return frozenset(each.vhost for each in users) - {"/"}


def queue_user_removal(name: str) -> str:
    """Shell text after which the user does not exist. Safe to repeat. Pure."""
    return _queue_removal("list_users", "delete_user", name)


def virtual_host_removal(name: str) -> str:
    """Shell text after which the virtual host does not exist, nor the queues in it. Safe to repeat. Pure."""
    return _queue_removal("list_vhosts", "delete_vhost", name)


def _queue_removal(listing: str, removal: str, name: str) -> str:
    quoted = shlex.quote(name)
    return (
        "set -eu\n"
        f"if rabbitmqctl --quiet {listing} --no-table-headers | cut -f1 | grep -qxF -- {quoted}; then\n"
        f"  rabbitmqctl --quiet {removal} {quoted}\nfi\n"
    )
