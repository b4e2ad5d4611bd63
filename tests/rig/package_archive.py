"""A package archive of small packages made here, and its HTTP server inside a container's network namespace."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.lab.namespaces import listening_socket

PORT = 3181
URL = f"http://127.0.0.1:{PORT}"

_UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
_START = """#!/bin/sh
set -e
systemctl daemon-reload
deb-systemd-helper enable lvt-service.service > /dev/null
deb-systemd-invoke start lvt-service.service
"""
_RESTART = """#!/bin/sh
set -e
systemctl daemon-reload
deb-systemd-invoke restart lvt-service.service
"""
_STOP = "#!/bin/sh\nset -e\ndeb-systemd-invoke stop lvt-service.service\n"
_FORGET = '#!/bin/sh\n[ "$1" != purge ] || deb-systemd-helper purge lvt-service.service > /dev/null\n'
# Waits until the test lets it go on: the moment at which an installation is interrupted is no accident.
_WAIT = "#!/bin/sh\nset -e\ntouch /run/lvt-waits\nuntil [ -e /run/lvt-go ]; do sleep 0.1; done\n"


@dataclass(frozen=True)
class Deb:
    """One package. `files`: path → content; `scripts`: `postinst` and the like."""

    name: str
    version: str = "1.0"
    depends: str = ""
    conflicts: str = ""
    installed_kib: int = 4
    files: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)


DEBS = (
    Deb("lvt-base"),
    Deb("lvt-base", "1.1"),
    Deb("lvt-tool", depends="lvt-base", files={"/etc/lvt/tool.conf": "colour=red\n"}),
    Deb("lvt-old", "2.0"),
    Deb("lvt-newer", depends="lvt-base (>= 1.1)"),
    Deb("lvt-rival", conflicts="lvt-base"),
    Deb("lvt-impossible", depends="lvt-nowhere"),
    Deb("lvt-huge", installed_kib=1 << 40),
    Deb("lvt-failing", scripts={"postinst": "#!/bin/sh\necho the cake is a lie >&2\nexit 3\n"}),
    Deb("lvt-slow", depends="lvt-base", scripts={"postinst": _WAIT}),
    Deb(
        "lvt-service",
        files={"/lib/systemd/system/lvt-service.service": _UNIT},
        scripts={"postinst": _START, "prerm": _STOP, "postrm": _FORGET},
    ),
    Deb(
        "lvt-service",
        "1.1",
        files={"/lib/systemd/system/lvt-service.service": _UNIT},
        scripts={"postinst": _RESTART, "prerm": _STOP, "postrm": _FORGET},
    ),
)


def build_archive(directory: Path) -> None:
    """The directory holds all packages and three indexes: `release` without lvt-base 1.1, `new` without 1.0, `all`."""
    pool = directory / "pool"
    pool.mkdir(parents=True)
    entries = [(deb, _build(deb, pool, directory / "tree")) for deb in DEBS]
    _index(directory / "release", [text for deb, text in entries if (deb.name, deb.version) != ("lvt-base", "1.1")])
    _index(directory / "new", [text for deb, text in entries if (deb.name, deb.version) != ("lvt-base", "1.0")])
    _index(directory / "all", [text for _, text in entries])


def _build(deb: Deb, pool: Path, trees: Path) -> str:
    """The package is in the pool; its stanza of the index."""
    tree = trees / f"{deb.name}_{deb.version}"
    control = tree / "DEBIAN"
    control.mkdir(parents=True)
    fields = {
        "Package": deb.name,
        "Version": deb.version,
        "Architecture": "all",
        "Maintainer": "Levier <levier@example.org>",
        "Installed-Size": str(deb.installed_kib),
        "Depends": deb.depends,
        "Conflicts": deb.conflicts,
        "Description": "a package of a test",
    }
    text = "".join(f"{key}: {value}\n" for key, value in fields.items() if value)
    (control / "control").write_text(text)
    for name, script in deb.scripts.items():
        (control / name).write_text(script)
        (control / name).chmod(0o755)
    for path, content in deb.files.items():
        file = tree / path.lstrip("/")
        file.parent.mkdir(parents=True)
        file.write_text(content)
    conffiles = [f"{path}\n" for path in deb.files if path.startswith("/etc/")]
    (control / "conffiles").write_text("".join(conffiles))
    packed = pool / f"{deb.name}_{deb.version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", str(tree), str(packed)], check=True, text=True)
    content = packed.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return f"{text}Filename: pool/{packed.name}\nSize: {len(content)}\nSHA256: {digest}\n"


def _index(directory: Path, stanzas: list[str]) -> None:
    directory.mkdir()
    (directory / "pool").symlink_to("../pool")
    packages = "\n".join(stanzas).encode()
    (directory / "Packages").write_bytes(packages)
    digest = hashlib.sha256(packages).hexdigest()
    date = "Date: Sat, 01 Jun 2024 00:00:00 UTC\n"
    (directory / "Release").write_text(f"{date}SHA256:\n {digest} {len(packages)} Packages\n")


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        server.requests.append(self.path)
        if "/pool/" in self.path:
            server.packages.wait()
        super().do_GET()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, namespace: str, directory: Path, packages: threading.Event) -> None:
        super().__init__(("127.0.0.1", PORT), partial(_Handler, directory=str(directory)), bind_and_activate=False)
        self.socket.close()
        self.socket = listening_socket(Path("/run/netns", namespace), ("127.0.0.1", PORT))
        self.requests: list[str] = []
        self.packages = packages


@contextmanager
def served(directory: Path, namespace: str, *, packages: threading.Event | None = None) -> Iterator[list[str]]:
    """The directory is at `URL` inside the namespace; the paths that were asked for.

    `packages`: only once it is set is a package given to those who ask; lists are at any time.
    """
    if packages is None:
        packages = threading.Event()
        packages.set()
    server = _Server(namespace, directory, packages)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.requests
    finally:
        packages.set()
        server.shutdown()
        thread.join()
        server.server_close()
