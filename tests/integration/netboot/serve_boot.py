"""Runs the boot service in a process of its own: serve_boot.py DATABASE_URL DIRECTORY HOST PORT."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from levier.api.boot_app import create_boot_app
from levier.api.boot_server import boot_server
from tests.integration.netboot.boot_service import BootFiles, services


def main() -> None:
    database_url, directory, host, port = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    home = Path(directory)
    files = BootFiles(kernel=home / "vmlinuz", ramdisk=home / "ramdisk.img", images=home / "images")
    boot_server(create_boot_app(services(database_url, files)), host=host, port=int(port)).run()


main()
