"""Run on a host with the agent's Python: whether os_ken's services get to know a switch on a slow host.

With the path of Levier's program for the agent as its argument by that, without one as os_ken is. It says "known" or
"lost". os_ken is slowed down where a slow host makes it wait: between telling of a switch and noting who it is.
"""

from __future__ import annotations

import os
import runpy
import socket
import struct
import sys
import threading
import time
from importlib import metadata
from typing import ClassVar

from os_ken import cfg
from os_ken.app.ofctl import api
from os_ken.base import app_manager
from os_ken.controller import controller, ofp_event, ofp_handler  # noqa: F401 - they declare their options
from os_ken.lib import hub
from os_ken.ofproto import ofproto_v1_3

PORT, DATAPATH, LONGEST_S = 16633, 7, 10.0
HELLO, FEATURES_REQUEST, FEATURES, MULTIPART_REQUEST, MULTIPART = 0, 5, 6, 18, 19
"""Types of messages of OpenFlow 1.3."""
tell = app_manager.OSKenApp.send_event_to_observers


def tell_slowly(app: app_manager.OSKenApp, event: object, state: object = None) -> None:
    """What comes after it comes late."""
    tell(app, event, state)
    if isinstance(event, ofp_event.EventOFPSwitchFeatures):
        time.sleep(0.5)  # the slowness itself


class Agent(app_manager.OSKenApp):
    """It asks for the switch as neutron's agent does."""

    OFP_VERSIONS: ClassVar = [ofproto_v1_3.OFP_VERSION]

    def start(self) -> object:
        super().start()
        threading.Thread(target=switch, daemon=True).start()
        threading.Thread(target=self.ask, daemon=True).start()
        return hub.spawn(end)

    def ask(self) -> None:
        while api.get_datapath(self, DATAPATH) is None:
            time.sleep(0.05)  # between two looks
        say("known")


def switch() -> None:
    """A switch that says what it must."""
    with connected() as connection, connection.makefile("rb") as replies:
        connection.sendall(struct.pack("!BBHI", 4, HELLO, 8, 1))
        while len(head := replies.read(8)) == 8:
            _version, kind, length, number = struct.unpack("!BBHI", head)
            replies.read(length - 8)
            if kind == FEATURES_REQUEST:
                connection.sendall(struct.pack("!BBHIQIBB2xII", 4, FEATURES, 32, number, DATAPATH, 256, 254, 0, 0, 0))
            if kind == MULTIPART_REQUEST:
                connection.sendall(struct.pack("!BBHIHH4x", 4, MULTIPART, 16, number, 13, 0))


def connected() -> socket.socket:
    while True:
        try:
            return socket.create_connection(("127.0.0.1", PORT))
        except OSError:
            time.sleep(0.05)  # between two attempts


def end() -> None:
    time.sleep(LONGEST_S)  # the limit: who knows the switch ends the process before
    say("lost")


def say(word: str) -> None:
    print(word, flush=True)
    os._exit(0)


def run() -> None:
    app_manager.AppManager.run_apps(["slow_switch", "os_ken.app.ofctl.service"])


class Started:
    """As an entry point of a distribution."""

    name = "neutron-openvswitch-agent"

    def load(self) -> object:
        return run


if __name__ == "__main__":
    cfg.CONF(project="os_ken", args=[])
    cfg.CONF.ofp_listen_host, cfg.CONF.ofp_tcp_listen_port = "127.0.0.1", PORT
    app_manager.OSKenApp.send_event_to_observers = tell_slowly
    metadata.entry_points = lambda **_: [Started()]
    if len(sys.argv) > 1:
        runpy.run_path(sys.argv[1])
    else:
        run()
