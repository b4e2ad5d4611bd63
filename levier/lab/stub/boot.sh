# Run by the chassis as root of fresh user, mount and UTS namespaces: fstab in $1, the root directory in $2. Afterwards
# the mount namespace's root is that directory, and the namespaces are kept by whoever opened them before input ends.
set -eu
mount --all --fstab "$1"
cd "$2"
pivot_root . .
umount -l .
cd /
/bin/sh /etc/init.d/rcS >&2
echo up
read -r _ || :
