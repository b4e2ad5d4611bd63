#!/bin/sh
# `sshd -T` tells the configuration in force, as sshd(8) does: the chassis' SSH server follows the same file.
if [ "${1:-}" != -T ]; then
    echo "sshd: the chassis serves SSH already" >&2
    exit 1
fi
sed -n 's/^\([A-Za-z]\+\)[[:space:]]\+\(.*\)$/\1 \2/p' /etc/ssh/sshd_config |
    while read -r keyword rest; do echo "$(echo "$keyword" | tr 'A-Z' 'a-z') $rest"; done
