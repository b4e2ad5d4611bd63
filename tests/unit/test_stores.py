"""Databases and users of the message queue: what is not as it is to be is changed and told, and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from levier.domain.component import Component
from levier.domain.ssh import CommandResult
from levier.saga.step import Checkpoint
from levier.services.components import resolved
from levier.services.context import NodeContext, NodeStep
from levier.services.steps.stores import databases, queue_users

SECRETS = {"shop.database": {"password": "pa'ss"}, "shop.queue": {"password": "qu'eue"}}
SHOP = Component.model_validate(
    {
        "name": "shop",
        "summary": "a shop",
        "secrets": [{"name": name} for name in SECRETS],
        "databases": [{"name": name, "user": "shop", "secret": "shop.database"} for name in ("shop", "shop_cell")],
        "message_queue": [{"user": "shop", "secret": "shop.queue"}],
    }
)
RABBITMQCTL = """\
#!{python} -IS
# RabbitMQ as far as users, virtual hosts and rights go.
import json, pathlib, sys

place = pathlib.Path(__file__).parent / "queue.json"
queue = json.loads(place.read_text())
queue["calls"].append(sys.argv[1:])
words = [each for each in sys.argv[1:] if not each.startswith("--")]
action, names = words[0], words[1:]
if action == "list_vhosts":
    print(*queue["vhosts"], sep="\\n")
elif action == "list_users":
    print(*(name + "\\t[]" for name in queue["users"]), sep="\\n")
elif action == "list_user_permissions":
    print(*("\\t".join([vhost, *rights]) for vhost, rights in queue["rights"].get(names[0], {}).items()), sep="\\n")
elif action == "add_vhost":
    queue["vhosts"].append(names[0])
elif action == "delete_vhost":
    queue["vhosts"].remove(names[0])
elif action == "delete_user":
    del queue["users"][names[0]], queue["rights"][names[0]]
elif action == "set_permissions":
    queue["rights"].setdefault(names[2], {})[names[1]] = names[3:]
else:
    password = sys.stdin.readline().rstrip("\\n")
    if action == "authenticate_user":
        print("Success" if queue["users"][names[0]] == password else "Error: failed to authenticate user")
        place.write_text(json.dumps(queue))
        sys.exit(0 if queue["users"][names[0]] == password else 65)
    assert (action == "add_user") == (names[0] not in queue["users"]), action
    queue["users"][names[0]] = password
    print("Done. Don't forget to grant the user permissions to some virtual hosts!")
place.write_text(json.dumps(queue))
"""


class Mariadb:
    """MariaDB as far as databases, users and their rights go; what it is told is in `told`."""

    def __init__(self) -> None:
        self.databases = {"mysql"}
        self.users: dict[str, str] = {}
        self.rights: set[tuple[str, str]] = set()
        self.told: list[str] = []

    def answer(self, text: str) -> str:
        return "".join(self._one(line.removesuffix(";")) for line in text.splitlines())

    def _one(self, line: str) -> str:
        name, user = re.search("`(.*)`", line), re.search("'(\\w+)'@'%'|User = '(\\w+)'", line)
        own = "" if user is None else user[1] or user[2]
        if line.startswith(("SHOW DATABASES", "SELECT 'database'")):
            begin = "" if line.startswith("SHOW") else "database\t"
            return "".join(f"{begin}{each}\n" for each in sorted(self.databases))
        if line.startswith("SELECT 'user'"):
            same = f"PASSWORD({self.users.get(own)})" in line
            return f"user\t{own}\t{int(same)}\n" if own in self.users else ""
        if line.startswith("SELECT 'rights'"):
            return line.split("'")[1] + "\t" + line.split("'")[3] + "\n"
        if line.startswith("SHOW GRANTS"):
            rights = [f"GRANT ALL PRIVILEGES ON `{d}`.* TO `{u}`@`%`\n" for u, d in sorted(self.rights) if u == own]
            return f"GRANT USAGE ON *.* TO `{own}`@`%`\n" + "".join(rights)
        self.told.append(line)
        self._change(line, "" if name is None else name[1], own)
        return ""

    def _change(self, line: str, name: str, user: str) -> None:
        if line.startswith("CREATE DATABASE"):
            self.databases.add(name)
        elif line.startswith("CREATE USER"):
            self.users.setdefault(user, "''")
        elif line.startswith("ALTER USER"):
            self.users[user] = line.partition(" IDENTIFIED BY ")[2]
        elif line.startswith("GRANT"):
            self.rights.add((user, name))
        elif line.startswith("DROP DATABASE"):
            self.databases.discard(name)
        else:
            assert line.startswith("DROP USER"), line
            self.users.pop(user, None)


class Host:
    """The host with both stores."""

    def __init__(self, root: Path) -> None:
        self.mariadb = Mariadb()
        self._root = root
        (root / "rabbitmqctl").write_text(RABBITMQCTL.replace("{python}", sys.executable, 1))
        (root / "rabbitmqctl").chmod(0o755)
        self.queue = {"vhosts": ["/"], "users": {}, "rights": {}, "calls": []}

    @property
    def queue(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads((self._root / "queue.json").read_text()))

    @queue.setter
    def queue(self, value: dict[str, Any]) -> None:
        (self._root / "queue.json").write_text(json.dumps(value))

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        queue = self.queue
        change(queue)
        self.queue = queue

    def run(self, command: str, *, stdin: bytes = b"", **_: Any) -> CommandResult:
        if command.startswith("mariadb "):
            return CommandResult(0, self.mariadb.answer(stdin.decode()), "", 0.0)
        path = {**os.environ, "PATH": f"{self._root}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", command], input=stdin, capture_output=True, check=False, env=path)
        assert done.returncode == 0, done.stderr
        return CommandResult(0, done.stdout.decode(), done.stderr.decode(), 0.0)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def context(host: Host) -> NodeContext:
    cloud = SimpleNamespace(ensure_secrets=lambda _: None, clear=lambda text: resolved(text, SECRETS))
    return cast(NodeContext, SimpleNamespace(cloud=cloud, own_host=lambda: host))


def changed(step: NodeStep, host: Host) -> list[str]:
    return cast(list[str], step.do(context(host))["changed"])


def undone(step: NodeStep, host: Host, before: Any) -> Any:
    assert callable(step.undo)
    return step.undo(context(host), Checkpoint(before=before, outputs=None, attempts=1))


DATABASES, USERS = databases(SHOP), queue_users(SHOP)


def test_databases_and_their_user_are_made_once_and_go_with_the_undo(host: Host) -> None:
    before = DATABASES.before(context(host))
    assert changed(DATABASES, host) == ["user shop", "shop", "shop_cell"]
    assert host.mariadb.users == {"shop": "'pa''ss'"}
    assert host.mariadb.rights == {("shop", "shop"), ("shop", "shop_cell")}
    host.mariadb.told.clear()
    assert changed(DATABASES, host) == []
    assert host.mariadb.told == []
    assert undone(DATABASES, host, before) == {"removed": ["shop", "shop_cell"]}
    assert (host.mariadb.databases, host.mariadb.users) == ({"mysql"}, {})


@pytest.mark.parametrize(
    ("harm", "words", "verbs"),
    [
        (lambda it: it.users.update(shop="'else'"), ["password of shop"], ["CREATE USER", "ALTER USER"]),
        (lambda it: it.rights.discard(("shop", "shop_cell")), ["rights of shop in shop_cell"], ["GRANT ALL"]),
        (lambda it: it.users.clear(), ["user shop"], ["CREATE USER", "ALTER USER"]),
    ],
    ids=["password", "rights", "user"],
)
def test_what_is_mended_of_databases_is_told_and_nothing_else_is_touched(
    host: Host, harm: Callable[[Mariadb], object], words: list[str], verbs: list[str]
) -> None:
    changed(DATABASES, host)
    harm(host.mariadb)
    host.mariadb.told.clear()
    assert changed(DATABASES, host)[: len(words)] == words
    assert [" ".join(each.split()[:2]) for each in host.mariadb.told][: len(verbs)] == verbs
    assert changed(DATABASES, host) == []


def test_a_user_of_the_queue_is_made_once_and_goes_with_the_undo(host: Host) -> None:
    before = USERS.before(context(host))
    assert changed(USERS, host) == ["user shop", "rights of shop in /"]
    made = host.queue
    assert made["users"] == {"shop": "qu'eue"}
    assert made["rights"] == {"shop": {"/": [".*", ".*", ".*"]}}
    assert changed(USERS, host) == []
    looked = {call[1] for call in host.queue["calls"][len(made["calls"]) :]}
    assert looked == {"list_vhosts", "list_users", "authenticate_user", "list_user_permissions"}
    assert undone(USERS, host, before) == {"removed": ["shop"]}
    assert host.queue["users"] == {}
    assert host.queue["vhosts"] == ["/"]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda it: it["users"].update(shop="else"), ["password of shop"]),
        (lambda it: it["rights"].clear(), ["rights of shop in /"]),
        (lambda it: it["rights"]["shop"].update({"/": [".*", "", ".*"]}), ["rights of shop in /"]),
        (lambda it: it["vhosts"].clear(), ["virtual host /"]),
    ],
    ids=["password", "rights", "one right", "virtual host"],
)
def test_what_is_mended_of_the_queue_is_told(
    host: Host, harm: Callable[[dict[str, Any]], object], words: list[str]
) -> None:
    changed(USERS, host)
    whole = {name: value for name, value in host.queue.items() if name != "calls"}
    host.edit(harm)
    assert changed(USERS, host) == words
    assert {name: value for name, value in host.queue.items() if name != "calls"} == whole
    assert changed(USERS, host) == []


def of_its_own(vhost: str) -> NodeStep:
    """The step of a component with a virtual host of its own."""
    user = {"user": "shop", "vhost": vhost, "secret": "shop.queue"}
    return queue_users(Component.model_validate({**SHOP.model_dump(), "message_queue": [user]}))


def test_a_virtual_host_of_its_own_goes_with_the_undo_and_one_that_was_there_stays(host: Host) -> None:
    step = of_its_own("stall")
    before = step.before(context(host))
    assert changed(step, host) == ["virtual host stall", "user shop", "rights of shop in stall"]
    again = step.before(context(host))
    assert undone(step, host, again) == {"removed": []}
    assert host.queue["vhosts"] == ["/", "stall"]
    for _ in range(2):
        assert undone(step, host, before) == {"removed": ["shop", "virtual host stall"]}
    assert (host.queue["vhosts"], host.queue["users"]) == (["/"], {})


def test_where_nobody_looked_for_virtual_hosts_none_is_removed(host: Host) -> None:
    step = of_its_own("stall")
    changed(step, host)
    assert undone(step, host, {"present": []}) == {"removed": ["shop"]}
    assert host.queue["vhosts"] == ["/", "stall"]


def test_no_password_is_an_argument(host: Host) -> None:
    changed(USERS, host)
    host.edit(lambda it: it["users"].update(shop="else"))
    changed(USERS, host)
    assert not [call for call in host.queue["calls"] if "qu'eue" in call]
