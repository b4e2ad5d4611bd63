"""Secrets are never in clear at rest, survive crashes and company, and say how to be stored."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levier.domain.errors import Conflict, InvalidRequest, NotFound
from levier.services.secrets import Secret, SecretStore

PASSWORD = "correct horse battery staple"
LOGIN = {"username": "levier-operator", "password": PASSWORD}


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    return SecretStore(tmp_path / "secrets")


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_a_stored_secret_is_read_back_by_another_instance(store: SecretStore, tmp_path: Path) -> None:
    store.set("lab-bmc", LOGIN)
    store.set("lab-bmc", {**LOGIN, "note": "zweite Fassung ü"})
    store.set("other.1", {"token": "x"})
    again = SecretStore(tmp_path / "secrets")
    assert dict(again.get("lab-bmc")) == {**LOGIN, "note": "zweite Fassung ü"}
    assert again.names() == ("lab-bmc", "other.1")
    again.delete("lab-bmc")
    assert store.names() == ("other.1",)
    with pytest.raises(NotFound):
        again.delete("lab-bmc")


def test_no_file_holds_clear_text_and_only_the_owner_may_read(store: SecretStore, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store.set("lab-bmc", LOGIN)
    finally:
        os.umask(old)
    files = _files(tmp_path)
    assert {path.name for path in files} == {"key", "lock", "lab-bmc.secret"}
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        content = path.read_bytes()
        assert not any(word.encode() in content for word in (PASSWORD, "horse", "levier-operator", "username"))
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_the_same_values_never_give_the_same_file(store: SecretStore, tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "a.secret"
    seen = set()
    for _ in range(20):
        store.set("a", LOGIN)
        seen.add(path.read_bytes())
    assert len(seen) == 20


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret(LOGIN)
    assert repr(secret) == str(secret) == f"{secret}" == "Secret(password=***, username=***)"
    assert secret["password"] == PASSWORD


def test_an_unknown_secret_names_the_way_to_store_it(store: SecretStore) -> None:
    with pytest.raises(NotFound) as caught:
        store.get("lab-bmc")
    assert caught.value.message == "there is no secret named 'lab-bmc'"
    assert caught.value.hint == "store it: levier secret set lab-bmc --username USER"
    store.set("lab-bmc2", LOGIN)
    with pytest.raises(NotFound, match="did you mean 'lab-bmc2'"):
        store.get("lab-bmc")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "UPPER", "a b", "x" * 64, "a\n", "key\0"])
def test_a_name_that_could_leave_the_directory_is_refused(store: SecretStore, tmp_path: Path, name: str) -> None:
    for call in (lambda: store.set(name, LOGIN), lambda: store.get(name), lambda: store.delete(name)):
        with pytest.raises(InvalidRequest, match="cannot be the name of a secret"):
            call()
    assert _files(tmp_path) == []


@pytest.mark.parametrize("values", [{}, {"": "x"}, {"a b": "x"}, {"a": 5}, {"a": "\ud800"}, {"a": "x" * 70_000}])
def test_values_that_cannot_be_stored_are_refused_without_showing_them(
    store: SecretStore, values: dict[str, str]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        store.set("a", values)
    assert "xxx" not in caught.value.message + caught.value.hint
    assert caught.value.hint
    assert store.names() == ()


def test_another_key_is_named_as_the_cause(store: SecretStore, tmp_path: Path) -> None:
    store.set("lab-bmc", LOGIN)
    other = SecretStore(tmp_path / "other")
    other.set("x", LOGIN)
    key = tmp_path / "secrets" / "key"
    kept = key.read_bytes()
    shutil.copyfile(tmp_path / "other" / "key", key)
    with pytest.raises(Conflict, match="was encrypted with another key") as caught:
        store.get("lab-bmc")
    assert "put back the key file" in caught.value.hint
    key.write_bytes(kept)
    assert store.get("lab-bmc")["password"] == PASSWORD


def test_a_lost_key_is_never_silently_replaced(store: SecretStore, tmp_path: Path) -> None:
    store.set("lab-bmc", LOGIN)
    (tmp_path / "secrets" / "key").unlink()
    for call in (lambda: store.get("lab-bmc"), lambda: store.set("new", LOGIN)):
        with pytest.raises(Conflict, match="is missing"):
            call()
    assert not (tmp_path / "secrets" / "key").exists()
    store.delete("lab-bmc")
    store.set("new", LOGIN)
    assert store.get("new")["password"] == PASSWORD


@pytest.mark.parametrize("text", ["", "levier-key-1:", "levier-key-1:AAAA", "levier-key-1:%%%", "garbage"])
def test_a_damaged_key_file_is_named(store: SecretStore, tmp_path: Path, text: str) -> None:
    store.set("lab-bmc", LOGIN)
    (tmp_path / "secrets" / "key").write_text(text)
    with pytest.raises(Conflict, match="is no key file of Levier"):
        store.get("lab-bmc")


def test_a_key_that_others_can_read_is_refused(store: SecretStore, tmp_path: Path) -> None:
    store.set("lab-bmc", LOGIN)
    (tmp_path / "secrets" / "key").chmod(0o644)
    with pytest.raises(Conflict, match=r"can be read by others \(mode 0644\)") as caught:
        store.get("lab-bmc")
    assert "chmod 600" in caught.value.hint


def test_a_key_kept_elsewhere_is_used_and_the_directory_alone_opens_nothing(tmp_path: Path) -> None:
    store = SecretStore(tmp_path / "secrets", key_file=tmp_path / "keys" / "levier")
    store.set("lab-bmc", LOGIN)
    assert store.get("lab-bmc")["password"] == PASSWORD
    assert not (tmp_path / "secrets" / "key").exists()
    with pytest.raises(Conflict, match="is missing"):
        SecretStore(tmp_path / "secrets").get("lab-bmc")


def test_two_stores_may_share_a_key_file(tmp_path: Path) -> None:
    stores = [SecretStore(tmp_path / name, key_file=tmp_path / "key") for name in ("one", "two")]
    for store in stores:
        store.set("a", LOGIN)
    assert [store.get("a")["password"] for store in stores] == [PASSWORD, PASSWORD]


def test_one_secrets_file_cannot_pass_for_another(store: SecretStore, tmp_path: Path) -> None:
    store.set("rack-a", LOGIN)
    shutil.copyfile(tmp_path / "secrets" / "rack-a.secret", tmp_path / "secrets" / "rack-b.secret")
    with pytest.raises(Conflict, match="was altered"):
        store.get("rack-b")


@given(position=st.integers(0, 10_000), flip=st.integers(1, 255), cut=st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_altered_file_gives_values(
    tmp_path_factory: pytest.TempPathFactory, position: int, flip: int, cut: bool
) -> None:
    directory = tmp_path_factory.mktemp("altered")
    store = SecretStore(directory)
    store.set("a", LOGIN)
    path = directory / "a.secret"
    content = bytearray(path.read_bytes())
    at = position % len(content)
    if cut:
        del content[at:]
    else:
        content[at] ^= flip
    path.write_bytes(content)
    with pytest.raises(Conflict) as caught:
        store.get("a")
    assert "levier secret set a" in caught.value.hint


def _write_many(directory: Path, worker: int, count: int) -> None:
    store = SecretStore(directory)
    for number in range(count):
        store.set(f"own-{worker}", {"value": f"{worker}-{number}"})
        store.set("shared", {"first": str(worker), "second": str(worker)})


def test_processes_that_begin_a_store_together_agree_on_the_key_and_lose_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_many, args=(directory, worker, 15)) for worker in range(4)]
    for worker in workers:
        worker.start()
    store, reads = SecretStore(directory), 0
    while any(worker.is_alive() for worker in workers):
        if "shared" in store.names():
            shared = store.get("shared")
            assert shared["first"] == shared["second"]
            reads += 1
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert reads > 0
    assert store.names() == ("own-0", "own-1", "own-2", "own-3", "shared")
    assert [store.get(f"own-{worker}")["value"] for worker in range(4)] == [f"{worker}-14" for worker in range(4)]


def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new_values_and_no_lock(tmp_path: Path) -> None:
    program = (
        "import sys, itertools; from pathlib import Path; from levier.services.secrets import SecretStore\n"
        "store = SecretStore(Path(sys.argv[1]))\n"
        "for number in itertools.count():\n"
        "    store.set('a', {'value': str(number)}); print(number, flush=True)\n"
    )
    store = SecretStore(tmp_path)
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        last = [int(writer.stdout.readline()) for _ in range(10)][-1]
        writer.send_signal(signal.SIGKILL)
        last = max([last, *(int(line) for line in writer.stdout.read().split())])
        assert writer.wait() == -signal.SIGKILL
        writer.stdout.close()
        assert int(store.get("a")["value"]) in (last, last + 1)
        store.set("a", {"value": "after"})
        assert store.get("a")["value"] == "after"
        assert store.names() == ("a",)
        assert {path.name for path in _files(tmp_path)} == {"a.secret", "key", "lock"}


def test_a_secret_that_many_need_at_once_is_made_once(tmp_path: Path) -> None:
    made: list[int] = []
    barrier = threading.Barrier(16)

    def make() -> dict[str, str]:
        made.append(threading.get_ident())
        return {"value": os.urandom(8).hex()}

    def need(_: int) -> str:
        store = SecretStore(tmp_path)
        barrier.wait(30)
        return store.ensure("login", make)["value"]

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(need, range(16)))) == 1
    assert len(made) == 1
