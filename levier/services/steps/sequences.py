"""Which steps make up which operation, in order. The plan shown to an operator is read off here."""

from __future__ import annotations

from levier.services.context import NodeStep
from levier.services.steps import hardware, host, image, lease, netboot, record

EXPAND: tuple[NodeStep, ...] = (
    lease.acquire_lease,
    hardware.verify_bmc,
    hardware.inspect_bmc,
    hardware.match_site,
    record.mark_deploying,
    netboot.allocate_address,
    image.create_host_key,
    hardware.power_off,
    netboot.publish_boot_entry,
    hardware.set_boot_device,
    hardware.power_on,
    netboot.await_agent,
    image.write_image,
    host.boot_host,
    netboot.withdraw_boot_entry,
    host.render,
    host.apply,
    host.verify_host,
    record.mark_ready,
)

INSPECT_OUT_OF_BAND: tuple[NodeStep, ...] = (
    lease.acquire_lease,
    hardware.verify_bmc,
    hardware.inspect_bmc,
    hardware.match_site,
)

INSPECT: tuple[NodeStep, ...] = (
    *INSPECT_OUT_OF_BAND,
    netboot.allocate_address,
    hardware.power_off,
    netboot.publish_inspection_entry,
    hardware.set_boot_device,
    hardware.power_on,
    netboot.await_agent,
    netboot.dismiss_agent,
    hardware.restore_power,
    netboot.withdraw_boot_entry,
    netboot.release_inspection_address,
    record.record_inventory,
    record.mark_available,
)

SEQUENCES: dict[str, tuple[NodeStep, ...]] = {"expand": EXPAND, "inspect": INSPECT}

STEPS: dict[str, NodeStep] = {s.name: s for sequence in SEQUENCES.values() for s in sequence}
"""Every step by name: what a rollback and the fault tests look up."""
