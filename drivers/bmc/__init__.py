"""BMC drivers by the name a site file gives them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from levier.domain.bmc import Bmc, BmcAddress, Credentials
from levier.domain.permit import Permit, unconditional

from . import ipmi
from .ipmi import IpmiBmc
from .options import IpmiOptions, Pacing

__all__ = ["BMC_DRIVERS", "BmcFactory", "IpmiBmc", "IpmiOptions", "Pacing"]


class BmcFactory(Protocol):
    """Makes a driver object; touches no BMC."""

    def __call__(
        self,
        address: BmcAddress,
        credentials: Credentials,
        *,
        options: Mapping[str, object],
        permit: Permit = unconditional,
    ) -> Bmc:
        """A driver for the BMC at `address`, which asks for `permit` right before each packet.

        Raises InvalidRequest for wrong options or credentials.
        """
        ...


BMC_DRIVERS: Mapping[str, BmcFactory] = MappingProxyType({"ipmi": ipmi.connect})

_: type[Bmc] = IpmiBmc
