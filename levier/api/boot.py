"""`python -m levier.api.boot`: the boot service for the site's machines."""

from __future__ import annotations

import sys

from levier import bootstrap
from levier.api.boot_app import create_boot_app
from levier.api.boot_server import boot_server
from levier.domain.errors import LevierError
from levier.services.boot_files import boot_services


def main() -> int:
    """The boot service served until it was told to stop; 1 when it could not start, having said why."""
    try:
        services = bootstrap.services()
        files = boot_services(services.settings, services.boot_agents)
    except LevierError as error:
        print(f"{error}\n{error.hint}".strip(), file=sys.stderr)
        return 1
    # All interfaces: machines ask on every provisioning network, and get nothing without a boot entry and its token.
    boot_server(create_boot_app(files), host="0.0.0.0", port=services.settings.boot_port).run()  # noqa: S104
    return 0


if __name__ == "__main__":
    sys.exit(main())
