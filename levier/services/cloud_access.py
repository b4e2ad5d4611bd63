"""Access to the installed cloud for its operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog

from levier.domain.errors import NotFound
from levier.services.cloud import ACCESS_SECRET, Cloud
from levier.services.sites import Sites

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CloudAccess:
    """Hands out the login that an installation made. Asks no machine."""

    cloud: Cloud
    sites: Sites

    def show(self, *, who: str) -> dict[str, Any]:
        """The `name` of the cloud, its `entry` for clouds.yaml with the login, the public endpoints' `ca` or None.

        Safe to repeat. Raises NotFound before the cloud was installed.
        """
        _revision, site = self.sites.current()
        if ACCESS_SECRET not in self.cloud.secrets.names():
            raise NotFound("there is no cloud yet to log in to", hint="levier install")
        login = self.cloud.secrets.get(ACCESS_SECRET)
        log.info("the login to the cloud was handed out", who=who)
        entry = {
            "auth_type": "v3applicationcredential",
            "auth": {
                "auth_url": self.cloud.public_identity_url(site),
                "application_credential_id": login["id"],
                "application_credential_secret": login["secret"],
            },
            "region_name": site.openstack.region,
            "interface": "public",
            "identity_api_version": 3,
        }
        return {"name": site.site.name, "entry": entry, "ca": self.cloud.public_ca(site)}
