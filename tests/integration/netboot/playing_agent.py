"""An agent for tests: the protocol of docs/agent-protocol.md, spoken by httpx."""

from __future__ import annotations

import re

import httpx

MAC = "52:54:00:aa:bb:01"
INVENTORY = (
    "serial=LV0001\nfirmware=bios\ncpu_count=2\nmemory_mib=512\n"
    f"disk.vda.size_bytes=4294967296\nnic.eth0.mac={MAC}\nnic.eth0.link=1\n"
)


def pairs(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


class PlayingAgent:
    """A machine's firmware, then its agent."""

    def __init__(self, boot_url: str, mac: str = MAC) -> None:
        self.boot_url = boot_url
        self.mac = mac
        self.session = ""
        self.http = httpx.Client(base_url=boot_url, timeout=90)

    def script(self) -> httpx.Response:
        return self.http.get(f"/ipxe/{self.mac.replace(':', '-')}")

    def token(self) -> str:
        found = re.search(r"levier\.token=(\S+)", self.script().text)
        assert found, "no token in the script"
        return found.group(1)

    def claim(self, token: str, *, body: str | bytes = INVENTORY) -> httpx.Response:
        answer = self.http.post("/agent/claim", content=body, headers={"Authorization": f"Bearer {token}"})
        if answer.status_code == 200:
            self.session = pairs(answer.text)["session"]
        return answer

    def boot(self) -> PlayingAgent:
        """The agent runs: script fetched, entry claimed."""
        assert self.claim(self.token()).status_code == 200
        return self

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.session}"}

    def next(self) -> httpx.Response:
        return self.http.post("/agent/next", headers=self.headers)

    def report(self, stage: str, state: str, **more: object) -> httpx.Response:
        lines = {"stage": stage, "state": state, **more}
        body = "".join(f"{k}={v}\n" for k, v in lines.items())
        return self.http.post("/agent/report", content=body, headers=self.headers)

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path, headers=self.headers)
