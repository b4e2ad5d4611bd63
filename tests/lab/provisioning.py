"""What a test puts beside a rack: a real dnsmasq, and a boot service that speaks docs/agent-protocol.md."""

from __future__ import annotations

import hashlib
import io
import secrets
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from levier.lab.network import namespace_path
from levier.lab.spec import BRIDGE
from tests.lab.namespaces import listening_socket

SERVER = "10.77.0.1"
PORT = 8480
BOOT_URL = f"http://{SERVER}:{PORT}"

_DNSMASQ = f"""
port=0
interface={BRIDGE}
except-interface=lo
bind-interfaces
no-ping
dhcp-authoritative
dhcp-ignore-clid
dhcp-range=10.77.0.100,10.77.0.199,255.255.255.0,10m
dhcp-match=set:ipxe,175
dhcp-match=set:efi64,option:client-arch,7
dhcp-boot=tag:ipxe,{BOOT_URL}/boot.ipxe
dhcp-boot=tag:efi64,tag:!ipxe,snponly.efi
enable-tftp
tftp-root=/usr/lib/ipxe
enable-ra
dhcp-range=::,constructor:{BRIDGE},ra-only
"""


class Dnsmasq:
    """DHCP and TFTP inside the lab's namespace."""

    def __init__(self, namespace: str, directory: Path) -> None:
        config, self._log = directory / "dnsmasq.conf", directory / "dnsmasq.log"
        config.write_text(f"{_DNSMASQ}dhcp-leasefile={directory}/leases\nlog-facility={self._log}\nlog-dhcp\n")
        self._process = subprocess.Popen(
            ["nsenter", f"--net={namespace_path(namespace)}", "dnsmasq", "-k", "-u", "root", "-C", str(config)]
        )

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)


class BootService:
    """Serves files, and the agent protocol for any machine that claims; keeps what it was told, in order.

    `orders` are the answers to `next`, one after the other; then `wait`. Without a namespace it listens here.
    """

    def __init__(self, namespace: str, *, host: str = SERVER, port: int = PORT) -> None:
        self.url = f"http://{host}:{port}"
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        """Method and path."""
        self.claims: list[str] = []
        self.reports: list[dict[str, str]] = []
        self.orders: list[str] = []
        self.orders_of: dict[str, list[str]] = {}
        """MAC → the orders of that machine alone; then those in `orders`."""
        self.seed_of: dict[str, bytes] = {}
        self.token = "token-of-the-script"
        self._sessions: dict[str, str] = {}
        """Secret → MAC."""
        self._stalled: dict[str, threading.Event] = {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service._get(self)

            def do_POST(self) -> None:
                service._post(self)

            def log_message(self, format: str, *args: object) -> None:
                """The service keeps its own record."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self._server.socket.close()
        where = (host, port)
        self._server.socket = (
            listening_socket(namespace_path(namespace), where)
            if namespace
            else socket.create_server(where, backlog=1024)
        )
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # --- what a test prepares --------------------------------------------------------------------------------------
    def script(self, *lines: str, path: str = "/boot.ipxe") -> None:
        self.files[path] = "\n".join(["#!ipxe", *lines, ""]).encode()

    def agent_script(self) -> None:
        """The scripts of a boot entry: the static one, and the node's own (docs/agent-protocol.md, section 1)."""
        self.script("chain --replace /ipxe/${netX/mac:hexhyp} || exit")
        self.files["/boot/e1/kernel"] = b"kernel" * 1000
        self.files["/boot/e1/ramdisk"] = b"ramdisk" * 10000

    def entry_for(self, mac: str) -> None:
        self.script(
            f"kernel {self.url}/boot/e1/kernel initrd=ramdisk levier.url={self.url} levier.token={self.token} "
            f"levier.mac={mac} console=tty0",
            f"initrd --name ramdisk {self.url}/boot/e1/ramdisk",
            "boot",
            path=f"/ipxe/{mac.replace(':', '-')}",
        )

    def order_image(self, compressed: bytes, *, raw_size_bytes: int, seed: bytes, **changed: str) -> None:
        """The next answer asks to write this image; `changed` replaces keys of the order."""
        digest = hashlib.sha256(compressed).hexdigest()
        self.files[f"/images/{digest}"] = compressed
        self.files["/agent/seed"] = seed
        self.orders.append(self._order(digest, compressed, raw_size_bytes, changed))

    def order_for(self, mac: str, compressed: bytes, *, raw_size_bytes: int, seed: bytes) -> None:
        """The machine with this MAC is told to write the image and its own seed, and to reboot."""
        digest = hashlib.sha256(compressed).hexdigest()
        self.files[f"/images/{digest}"] = compressed
        self.files["/agent/seed"] = b""
        self.seed_of[mac] = seed
        self.orders_of[mac] = [self._order(digest, compressed, raw_size_bytes, {}), "action=reboot\n"]

    def _order(self, digest: str, compressed: bytes, raw_size_bytes: int, changed: Mapping[str, str]) -> str:
        order = {
            "action": "write",
            "disk": "vda",
            "image_url": f"{self.url}/images/{digest}",
            "image_sha256": digest,
            "image_size_bytes": str(len(compressed)),
            "raw_size_bytes": str(raw_size_bytes),
            "seed_url": f"{self.url}/agent/seed",
            **changed,
        }
        return "".join(f"{key}={value}\n" for key, value in order.items())

    def stall(self, prefix: str) -> threading.Event:
        """Answers to paths that begin so stop half-way until the event is set; they end early then."""
        return self._stalled.setdefault(prefix, threading.Event())

    def stages(self) -> list[str]:
        return [f"{r['stage']}/{r['state']}" for r in self.reports if r["state"] != "progress"]

    # --- what the machine asks -------------------------------------------------------------------------------------
    def _get(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(("GET", request.path))
        body = self.files.get(request.path)
        mac: str | None = None
        protected = request.path.startswith(("/images/", "/agent/"))
        if body is None:
            _answer(request, 404, b"error=not here\n")
        elif protected and (mac := self._machine(request)) is None:
            _answer(request, 403, b"error=no session\n")
        elif stalled := next(
            (e for p, e in self._stalled.items() if request.path.startswith(p) and not e.is_set()), None
        ):
            request.send_response(200)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body[: len(body) // 2])
            stalled.wait(60)
            request.close_connection = True
        else:
            _answer(request, 200, self.seed_of.get(mac or "", body) if request.path == "/agent/seed" else body)

    def _machine(self, request: BaseHTTPRequestHandler) -> str | None:
        """The MAC of the machine whose session this is."""
        return self._sessions.get((request.headers["Authorization"] or "").removeprefix("Bearer "))

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0))).decode()
        self.requests.append(("POST", request.path))
        bearer = (request.headers["Authorization"] or "").removeprefix("Bearer ")
        if request.path == "/agent/claim":
            if bearer != self.token:
                _answer(request, 403, b"error=unknown token\n")
                return
            self.claims.append(body)
            session = secrets.token_hex(16)
            self._sessions[session] = next(
                (v for k, v in _pairs(body) if k.startswith("nic.") and k.endswith(".mac")), ""
            )
            _answer(request, 200, f"session={session}\n".encode())
        elif bearer not in self._sessions:
            _answer(request, 403, b"error=no session\n")
        elif request.path == "/agent/next":
            own = self.orders_of.get(self._sessions[bearer])
            orders = own or self.orders
            _answer(request, 200, (orders.pop(0) if orders else self._wait()).encode())
        else:
            self.reports.append(dict(_pairs(body)))
            _answer(request, 200, b"ok=1\n")

    def _wait(self) -> str:
        """Holds the answer until there is an order, for up to 2 s."""
        deadline = time.monotonic() + 2
        while not self.orders and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.orders.pop(0) if self.orders else "action=wait\n"


def _pairs(body: str) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (line.partition("=") for line in body.splitlines())]


def _answer(request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def seed_archive(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    """An uncompressed tar with these files and symbolic links; private keys and login keys have mode 0600."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o600 if "key" in name else 0o644
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    return out.getvalue()


def wait_until(condition: Callable[[], object], *, what: str, timeout_s: float = 60.0) -> None:
    """The condition holds; it is looked at after the deadline once more."""
    deadline = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= deadline  # before the look: this computer may stand still between two looks
        if condition():
            return
        assert not late, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)
