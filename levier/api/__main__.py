"""`python -m levier.api`: the REST API on loopback."""

from __future__ import annotations

import sys

import uvicorn

from levier import bootstrap
from levier.api.app import create_app
from levier.domain.errors import LevierError
from levier.services.boot_files import ensure_guest, ensure_ramdisk


def main() -> int:
    """The API served until it was told to stop; 1 when it could not start, with the cause on standard error."""
    try:
        services = bootstrap.services()
        # Here, because this process reaches the package archive and the boot service may not.
        ensure_ramdisk(services.settings, lambda line: print(line, flush=True))
        ensure_guest(services.settings, lambda line: print(line, flush=True))
        token = bootstrap.ensure_token(services.settings.token_file)
    except LevierError as error:
        print(f"{error}\n{error.hint}".strip(), file=sys.stderr)
        return 1
    port = int(services.settings.api_url.rpartition(":")[2])
    uvicorn.run(create_app(services, token=token), host="127.0.0.1", port=port, log_level="warning", access_log=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
