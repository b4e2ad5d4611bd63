"""The server of the smoke test: a kernel and a ramdisk of a few programs, which report on the serial console."""

from drivers.guest.builder import NAME, BuiltGuest, GuestRecord, build_guest, list_guests, verify_guest

__all__ = ["NAME", "BuiltGuest", "GuestRecord", "build_guest", "list_guests", "verify_guest"]
