"""Access to the installed cloud for its operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from drivers.openstack.access import new_application_credential
from drivers.openstack.connection import cloud_connection
from levier.services.cloud import Cloud
from levier.services.sites import Sites

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CloudAccess:
    """Hands out logins."""

    cloud: Cloud
    sites: Sites
    clock: Callable[[], datetime]

    def grant(self, *, who: str) -> dict[str, Any]:
        """A new login as administrator: `name` of the cloud, its `entry` for clouds.yaml, `ca` in PEM or None.

        Not safe to repeat: each call makes one more application credential. Its secret is told here only. Raises
        NotFound before the cloud was installed, Unreachable when it does not answer.
        """
        _revision, site = self.sites.current()
        login, public_url = self.cloud.login(site), self.cloud.public_identity_url(site)
        name = f"levier-{who}-{self.clock():%Y%m%d-%H%M%S-%f}"
        with cloud_connection(login, permit=lambda: None) as connection:
            made = new_application_credential(connection, name=name, description="Made by levier cloud access")
        log.info("access to the cloud granted", who=who, credential=made.name)
        entry = {
            "auth_type": "v3applicationcredential",
            "auth": {
                "auth_url": public_url,
                "application_credential_id": made.id,
                "application_credential_secret": made.secret,
            },
            "region_name": site.openstack.region,
            "interface": "public",
            "identity_api_version": 3,
        }
        return {"name": site.site.name, "entry": entry, "ca": self.cloud.public_ca(site), "credential": made.name}
