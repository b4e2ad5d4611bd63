"""Files on a host: shell scripts that replace, read and remove one file each, and the reading of their answers.

Shell rather than SFTP, because SFTP knows neither fsync, nor owner names, nor sudo, and a host may not offer it.
The scripts take the path and the attributes as arguments and content on standard input: nothing of it is seen by ps.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from levier.domain.errors import MalformedReply
from levier.domain.ssh import FileStat

PROBE = r"""
if [ -L "$1" ]; then echo link; exit; fi
if [ -d "$1" ]; then echo directory; exit; fi
[ -e "$1" ] || { echo absent; exit; }
[ -f "$1" ] || { echo special; exit; }
stat -c 'file %a %u %U %g %G' -- "$1" && sha256sum < "$1"
"""

# The content is complete before anything else happens: a connection that drops half-way ends standard input early.
REPLACE = r"""
set -eu
path=$1 mode=$2 owner=$3 group=$4 digest=$5
dir=$(dirname -- "$path")
[ -d "$dir" ] || { echo "the directory $dir does not exist" >&2; exit 1; }
if [ -d "$path" ] && [ ! -L "$path" ]; then echo "is a directory" >&2; exit 1; fi
tmp=$(mktemp -- "$dir/.levier-upload.XXXXXXXXXX")
trap 'rm -f -- "$tmp"' EXIT
trap 'exit 143' HUP INT PIPE TERM
cat > "$tmp"
[ "$(sha256sum < "$tmp")" = "$digest  -" ] || { echo "the content arrived incomplete" >&2; exit 1; }
chown -- "$owner:$group" "$tmp"
chmod -- "$mode" "$tmp"
sync -- "$tmp"
mv -fT -- "$tmp" "$path"
sync -- "$dir"
"""

# One open file for attributes and content: a replacement in between cannot mix the two.
READ = r"""
set -eu
if [ ! -e "$1" ]; then echo absent; exit 0; fi
[ -f "$1" ] || { echo "is no regular file" >&2; exit 1; }
exec 3< "$1"
stat -L -c '%a %U %G %s' /dev/fd/3
exec cat <&3
"""

REMOVE = r"""
set -eu
if [ ! -e "$1" ] && [ ! -L "$1" ]; then echo absent; exit 0; fi
if [ -d "$1" ] && [ ! -L "$1" ]; then echo "is a directory" >&2; exit 1; fi
rm -f -- "$1"
sync -- "$(dirname -- "$1")"
echo removed
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file as it shall be. `owner` and `group` are names or decimal ids."""

    content: bytes
    mode: int
    owner: str
    group: str

    @property
    def digest(self) -> str:
        """SHA-256 in lower-case hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def mode_text(self) -> str:
        """Octal without prefix, four digits at least, so that chmod(1) also clears the set-id bits."""
        return f"{self.mode:04o}"

    def matches(self, probe: str) -> bool:
        """Whether PROBE's answer describes this very file; a symbolic link never does."""
        words = probe.split()
        if len(words) < 7 or words[0] != "file":
            return False
        mode, uid, owner, gid, group, digest = words[1:7]
        return (
            int(mode, 8) == self.mode
            and self.owner in (uid, owner)
            and self.group in (gid, group)
            and digest == self.digest
        )


def parse_read(output: bytes) -> FileStat | None:
    """READ's answer as a file, None for an absent one. Raises MalformedReply when content is missing."""
    head, _, content = output.partition(b"\n")
    if head == b"absent":
        return None
    words = head.decode("utf-8", "replace").split()
    # More than announced is a file that grew while it was read; less would be a truncated answer.
    if len(words) != 4 or len(content) < int(words[3]):
        raise MalformedReply("the file arrived incomplete", hint="Read it again.")
    return FileStat(content=content, mode=int(words[0], 8), owner=words[1], group=words[2])
