#!/bin/busybox sh
# shellcheck shell=dash disable=SC2154,SC2086 # the variables are udhcpc's; staticroutes is a list on purpose
# What udhcpc calls with a lease: address, MTU and routes are set as the server says.
export PATH=/bin
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
[ -n "$mtu" ] && ip link set "$interface" mtu "$mtu"
ip addr replace "$ip/$mask" dev "$interface"
if [ -n "$staticroutes" ]; then
    # These replace the router (RFC 3442).
    set -- $staticroutes
    while [ $# -ge 2 ]; do
        if [ "$2" = 0.0.0.0 ]; then ip route replace "$1" dev "$interface"; else ip route replace "$1" via "$2"; fi
        shift 2
    done
elif [ -n "$router" ]; then
    ip route replace default via "${router%% *}"
fi
[ -n "$router" ] && echo "${router%% *}" >/run/gateway
echo "$ip/$mask" >/run/address
exit 0
