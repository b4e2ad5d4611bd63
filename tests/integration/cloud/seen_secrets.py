"""Where secrets of an installed cloud could be seen: Levier's files, command lines, the hosts' journals and logs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tests.integration.cloud.installation import CloudInstallation

PUBLIC = {"public", "operation", "certificate", "id"}
"""Parts of secrets that anybody may know."""
LENGTH = 16
"""Shorter values may stand anywhere by chance, or are names."""
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)-----END", re.DOTALL)
# Needles come by standard input, which grep reads them from: they are in no command line, and in no file of the host.
_JOURNAL = "exec bash -c 'grep -oaF -f - <(journalctl --no-pager --all --output=verbose </dev/null) || [ $? -eq 1 ]'"
# A log that is rotated meanwhile is an error to grep, and none here.
_LOGS = "grep -rosaF -f - /var/log || [ $? -le 2 ]"
_IS_ALIVE = "journalctl --no-pager --unit='levier-*' | wc -l"


def needle(value: str) -> str:
    """The line of a secret to look for: the last of its longest ones, of the private key in it if it has one. Pure.

    One line, since line breaks look otherwise in JSON; the last one, since keys begin with what is public.
    """
    key = _PRIVATE_KEY.search(value)
    return max(reversed((key[1] if key else value).split("\n")), key=len).strip()


def needles(secrets: Mapping[str, str]) -> dict[str, str]:
    """What to look for, and which secret (`NAME KEY` → value) it is of; without what is public or too short. Pure."""
    private = {what: needle(value) for what, value in secrets.items() if what.split()[1] not in PUBLIC}
    return {found: what for what, found in private.items() if len(found) >= LENGTH}


def seen_secrets(cloud: CloudInstallation, processes: Sequence[bytes] = ()) -> list[str]:
    """Where which secret was seen, in words: nowhere if empty. Changes nothing on the hosts.

    `processes` are command lines seen. All machines are on.
    """
    wanted = needles({**cloud.secrets(), "levier api-token": cloud.token()})
    files = [path for path in cloud.state_dir.rglob("*") if path.is_file() and path.name != "api-token"]
    contents = {str(path): path.read_bytes() for path in files} | {"a command line": b"\n".join(processes)}
    seen = [f"{what} in {name}" for name, it in contents.items() for n, what in wanted.items() if n.encode() in it]
    return seen + [each for host in cloud.machine_names for each in _seen_on(cloud, host, wanted)]


def _seen_on(cloud: CloudInstallation, host: str, wanted: Mapping[str, str]) -> list[str]:
    assert int(cloud.on(host, _IS_ALIVE)) > 1, f"the journal of {host} holds nothing of Levier: the search is wrong"
    lines = "\n".join(wanted)
    journal = {line for line in cloud.on(host, _JOURNAL, stdin=lines).splitlines() if line}
    logs = {line for line in cloud.on(host, _LOGS, stdin=lines).splitlines() if line}
    return [
        *(f"{wanted.get(line, 'something')} in the journal of {host}" for line in sorted(journal)),
        # FILE:NEEDLE, where no needle has a colon in it that the name of a file could be taken for.
        *(f"{wanted.get(line.partition(':')[2], 'something')} in {line.partition(':')[0]} of {host}" for line in logs),
    ]
