"""The scalar types of the site file: each checks one value by itself and says what would be right."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from levier.domain.problems import suggest

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""One label of a host name in lower case (RFC 1123 section 2.1: a leading digit is allowed, 63 characters at most)."""

CREDENTIAL = r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?"
"""The name of a secret in the secret store; safe as a file name."""

PLACEHOLDER_SERIALS = frozenset(
    {
        "",
        "none",
        "unknown",
        "n/a",
        "not specified",
        "not available",
        "default string",
        "system serial number",
        "to be filled by o.e.m.",
        "0123456789",
        "123456789",
    }
)
"""What firmware reports when nobody set a serial number, in lower case: it identifies no machine."""

_LABEL_KEY = r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?"
_SYSCTL_KEY = r"[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)+"
_RELEASE = r"20[0-9]{2}\.[0-9]{1,2}(\.[0-9]{1,3})?"
_KEY_TYPE = r"(?:sk-)?(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp(?:256|384|521))(?:@openssh\.com)?"
_KEY_LINE = re.compile(rf"(?:^|.*\s)(?P<type>{_KEY_TYPE})\s+(?P<blob>[A-Za-z0-9+/]+=*)(?:\s.*)?")


def refuse(reason: str, expected: str) -> PydanticCustomError:
    """The error that a validator raises: why the value is wrong, and what would be right."""
    return PydanticCustomError("site_value", "{reason}", {"reason": reason, "expected": expected})


def _host_label(value: str) -> str:
    if not re.fullmatch(LABEL, value):
        wanted = "1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end (RFC 1123)"
        raise refuse(f"{value!r} is not a host name", f"expected {wanted}")
    if value.isdigit():
        raise refuse(f"{value!r} consists of digits only and reads as an address", "expected at least one letter")
    return value


def pattern(pattern: str, what: str, expected: str) -> Callable[[str], str]:
    """A validator that refuses what `pattern` does not match in full: it is not `what`, `expected` would be right."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise refuse(f"{value!r} is not {what}", f"expected {expected}")
        return value

    return check


def _is_dns_name(value: str) -> bool:
    """Whether `value` is a host name that no resolver takes for an address (RFC 1123 section 2.1)."""
    labels = value.split(".")
    return len(value) <= 253 and all(re.fullmatch(LABEL, each) for each in labels) and not labels[-1].isdigit()


def _credential(value: str) -> str:
    if not re.fullmatch(CREDENTIAL, value):  # not shown: it may well be the password itself
        wanted = "expected the NAME given to `levier secret set NAME`: lower-case letters, digits, dots and hyphens"
        raise refuse("this is not the name of a secret", wanted)
    return value


def _dns_name(value: str) -> str:
    if not _is_dns_name(value):
        raise refuse(
            f"{value!r} is not a domain name", "expected lower-case labels joined by dots, such as cloud.example"
        )
    return value


def _endpoint_host(value: str) -> str:
    try:
        return str(ip_address(value))
    except ValueError:
        if _is_dns_name(value):
            return value
    raise refuse(
        f"{value!r} is neither an address nor a host name", "expected something like 10.0.8.21 or bmc7.example"
    )


def _ipv4(value: object) -> object:
    if not isinstance(value, str):
        return _typed(value, IPv4Address, "an IPv4 address such as 10.77.0.11")
    try:
        return IPv4Address(value)
    except ValueError as error:
        raise refuse(f"{value!r} is not an IPv4 address", "expected four numbers such as 10.77.0.11") from error


def _cidr(value: object) -> object:
    if not isinstance(value, str):
        return _typed(value, IPv4Network, "a network such as 10.77.0.0/24")
    if "/" not in value:
        raise refuse(f"{value!r} has no prefix length", "expected a network such as 10.77.0.0/24")
    try:
        loose = IPv4Network(value, strict=False)
    except ValueError as error:
        raise refuse(f"{value!r} is not an IPv4 network", "expected a network such as 10.77.0.0/24") from error
    if str(loose.network_address) != value.split("/")[0]:
        raise refuse(f"{value!r} has bits set to the right of its prefix", f"did you mean '{loose}'?")
    return loose


def _typed(value: object, kind: type, what: str) -> object:
    if not isinstance(value, kind):
        raise refuse(f"{show(value)} is not a text", f"expected {what}")
    return value


def _mac(value: str) -> str:
    octets = re.fullmatch(r"([0-9a-f]{2})" + r"([:-])([0-9a-f]{2})" + r"\2([0-9a-f]{2})" * 4, value.lower())
    if not octets:
        raise refuse(f"{value!r} is not a MAC address", "expected six octets such as 52:54:00:12:34:56")
    if int(octets[1], 16) & 1:
        raise refuse(f"{value!r} is a multicast address, which no NIC has", "expected an even first octet")
    if not value.strip("0:-"):
        raise refuse(f"{value!r} is the null address, which no NIC has", "expected the address printed on the NIC")
    return value.lower().replace("-", ":")


def _serial(value: str) -> str:
    if value.strip().lower() in PLACEHOLDER_SERIALS:
        raise refuse(f"{value!r} identifies no machine", "expected the serial number, or leave the key out")
    return value.strip()


def _timezone(value: str) -> str:
    known = available_timezones()
    if value not in known:
        wanted = "expected a name of the IANA database such as Europe/Paris or Etc/UTC"
        raise refuse(f"{value!r} is not a time zone", suggest(value, known, otherwise=wanted))
    return value


def _public_key(value: str) -> str:
    if "PRIVATE KEY" in value:
        raise refuse(
            "this is a PRIVATE key", "expected the public key (the .pub file); consider the private key exposed"
        )
    line = value.strip()
    match = _KEY_LINE.fullmatch(line)
    wanted = "expected one line of an OpenSSH .pub file, such as 'ssh-ed25519 AAAA… name'"
    if not match:
        raise refuse("this is not an OpenSSH public key", wanted)
    try:
        blob = base64.b64decode(match["blob"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise refuse("the key is not complete: its base64 text is cut off", wanted) from error
    kind = match["type"].encode()
    if not blob.startswith(len(kind).to_bytes(4, "big") + kind) or len(blob) < len(kind) + 36:
        raise refuse(f"the key is not complete, or not of the type {match['type']}", wanted)
    return line


def _sysctl_value(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _one_line(value: str) -> str:
    if not value.strip() or any(ord(each) < 0x20 or ord(each) == 0x7F for each in value):
        raise refuse(f"{value!r} is empty or has control characters", "expected one line of text")
    return value.strip()


def _label_value(value: str) -> str:
    if len(value) > 255 or any(ord(each) < 0x20 for each in value):
        raise refuse("the value is longer than 255 characters or has control characters", "expected one short line")
    return value


def show(value: object) -> str:
    """`value` as it would be written in YAML, short enough for a message."""
    words = {True: "true", False: "false", None: "null"}
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _schema(pattern: str = "", **more: object) -> WithJsonSchema:
    anchored = {"pattern": f"^{pattern}$"} if pattern else {}
    return WithJsonSchema({"type": "string", **anchored, **more})


_label_key = pattern(_LABEL_KEY, "a label name", "1 to 63 letters, digits, dots, slashes, underscores and hyphens")
_sysctl_key = pattern(_SYSCTL_KEY, "a sysctl name", "something like net.ipv4.ip_forward")
_digest = pattern(r"[0-9a-f]{64}", "a SHA-256 digest", "64 lower-case hexadecimal digits")
_interface = pattern(
    r"[A-Za-z0-9._-]{1,15}", "the name of a network interface", "1 to 15 letters, digits, '.', '_' or '-'"
)
_image_name = pattern(
    CREDENTIAL, "the name of an image", "lower-case letters, digits, dots and hyphens, such as debian-12"
)
_release_name = pattern(_RELEASE, "the name of a release", "a series such as '2026.2' (in quotes), or '2026.2.1'")

HostLabel = Annotated[str, Strict(), AfterValidator(_host_label), _schema(LABEL, **{"not": {"pattern": "^[0-9]+$"}})]
ImageName = Annotated[str, Strict(), AfterValidator(_image_name), _schema(CREDENTIAL)]
ReleaseName = Annotated[str, Strict(), AfterValidator(_release_name), _schema(_RELEASE)]
CredentialName = Annotated[str, Strict(), AfterValidator(_credential), _schema(CREDENTIAL)]
DnsName = Annotated[str, Strict(), AfterValidator(_dns_name), _schema(rf"{LABEL}(\.{LABEL})*", maxLength=253)]
EndpointHost = Annotated[str, Strict(), AfterValidator(_endpoint_host), _schema(r"[0-9A-Za-z.:-]+", maxLength=253)]
Address = Annotated[IPv4Address, BeforeValidator(_ipv4), _schema(format="ipv4")]
Cidr = Annotated[IPv4Network, BeforeValidator(_cidr), _schema(r"[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}")]
Mac = Annotated[str, Strict(), AfterValidator(_mac), _schema(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")]
Serial = Annotated[str, Strict(), AfterValidator(_serial), _schema(minLength=1)]
TimeZone = Annotated[str, Strict(), AfterValidator(_timezone), _schema(r"[A-Za-z0-9_+/-]+")]
PublicKey = Annotated[str, Strict(), AfterValidator(_public_key), _schema(minLength=1)]
Sha256 = Annotated[str, Strict(), AfterValidator(_digest), _schema("[0-9a-f]{64}")]
Interface = Annotated[str, Strict(), AfterValidator(_interface), _schema("[A-Za-z0-9._-]{1,15}")]
Line = Annotated[str, Strict(), AfterValidator(_one_line), _schema(minLength=1)]
LabelKey = Annotated[str, Strict(), AfterValidator(_label_key), _schema(_LABEL_KEY)]
LabelValue = Annotated[str, Strict(), AfterValidator(_label_value), _schema(maxLength=255)]
SysctlKey = Annotated[str, Strict(), AfterValidator(_sysctl_key), _schema(_SYSCTL_KEY)]
SysctlValue = Annotated[
    str,
    BeforeValidator(_sysctl_value),
    Strict(),
    AfterValidator(_one_line),
    WithJsonSchema({"type": ["string", "integer"], "minLength": 1}),
]
