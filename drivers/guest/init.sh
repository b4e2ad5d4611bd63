#!/bin/busybox sh
# shellcheck shell=dash
# First process of a server of the smoke test. What it finds it says on the serial console, one line each:
#   LEVIER-SMOKE address=ADDRESS/BITS mtu=BYTES     by DHCP
#   LEVIER-SMOKE metadata=ok                        its user data arrived
#   LEVIER-SMOKE gateway=ADDRESS ping=ok
#   LEVIER-SMOKE peer=ADDRESS ping=ok http=ok       also a block that needs full frames
#   LEVIER-SMOKE done                               all of the above, for every peer
#   LEVIER-SMOKE volume=vdb size=BYTES io=ok        written, read back; when it goes: volume=vdb gone
# What does not work yet is said once, with "no" for "ok", and tried again for as long as the server runs.
export PATH=/bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
dmesg -n 1

# Not by `wget -T`: in the static busybox of Debian 12 it ends by a segmentation fault.
fetch() { timeout "$1" wget -q -O "$2" "$3" 2>/dev/null; }

say() { echo "LEVIER-SMOKE $*" >/dev/console; }

# The line is said when it differs from what was last said about the subject.
say_new() {
    subject=$1
    shift
    [ "$(cat "/run/said-$subject" 2>/dev/null)" = "$*" ] && return
    echo "$*" >"/run/said-$subject"
    say "$*"
}

BLOCK_BYTES=262144
METADATA=http://169.254.169.254/openstack/latest/user_data

get_address() {
    until udhcpc -q -n -t 5 -T 2 -i eth0 -O staticroutes -O mtu -s /lease.sh >/dev/null 2>&1 && [ -s /run/address ]; do
        say_new address "address=no"
    done
    say_new address "address=$(cat /run/address) mtu=$(cat /sys/class/net/eth0/mtu)"
}

serve() {
    mkdir -p /run/www
    own=$(cut -d/ -f1 /run/address)
    echo "levier-smoke $own" >/run/www/index.html
    head -c $BLOCK_BYTES /dev/zero >/run/www/block
    httpd -p 80 -h /run/www
}

# The user data: lines of peer=ADDRESS, closed by "end".
get_peers() {
    until fetch 10 /run/user-data $METADATA && grep -qx end /run/user-data; do
        say_new metadata "metadata=no"
        sleep 1
    done
    say_new metadata "metadata=ok"
}

# Status 0 once the peer answers by ping and HTTP.
try_peer() {
    ping -c 1 -W 3 "$1" >/dev/null 2>&1 || { say_new "peer-$1" "peer=$1 ping=no"; return 1; }
    if [ "$(fetch 10 - "http://$1/")" != "levier-smoke $1" ]; then
        say_new "peer-$1" "peer=$1 ping=ok http=no"
        return 1
    fi
    if [ "$(fetch 30 - "http://$1/block" | wc -c)" != $BLOCK_BYTES ]; then
        say_new "peer-$1" "peer=$1 ping=ok http=short"
        return 1
    fi
    say_new "peer-$1" "peer=$1 ping=ok http=ok"
}

try_gateway() {
    ping -c 1 -W 3 "$1" >/dev/null 2>&1 || { say_new gateway "gateway=$1 ping=no"; return 1; }
    say_new gateway "gateway=$1 ping=ok"
}

watch_volumes() {
    while :; do
        for path in /sys/block/vd[b-z]; do
            name=${path##*/}
            [ -e "$path" ] && [ ! -e "/run/volume-$name" ] && try_volume "$name"
        done
        for known in /run/volume-*; do
            name=${known##*/volume-}
            [ -e "$known" ] && [ ! -e "/sys/block/$name" ] && rm "$known" && say "volume=$name gone"
        done
        sleep 1
    done
}

try_volume() {
    : >"/run/volume-$1"
    size=$(($(cat "/sys/block/$1/size") * 512))
    head -c 1048576 /dev/urandom >/run/pattern
    io=no
    if dd if=/run/pattern of="/dev/$1" bs=65536 conv=fsync 2>/dev/null; then
        # Read from the volume, and not from memory.
        echo 3 >/proc/sys/vm/drop_caches
        head -c 1048576 "/dev/$1" | cmp -s - /run/pattern && io=ok
    fi
    say "volume=$1 size=$size io=$io"
}

modprobe -q -a virtio_pci virtio_net virtio_blk
ip link set lo up
ip link set eth0 up
say "started kernel=$(uname -r)"
watch_volumes &
get_address
serve
get_peers
pending=$(sed -n 's/^peer=//p' /run/user-data)
gateway=$(cat /run/gateway 2>/dev/null)
while :; do
    left=
    [ -z "$gateway" ] || { try_gateway "$gateway" && gateway=; }
    for peer in $pending; do
        try_peer "$peer" || left="$left $peer"
    done
    pending=$left
    [ -z "$pending$gateway" ] && break
    sleep 1
done
say "done"
# The first process never ends; it collects the children that others leave.
while :; do sleep 3600; done
