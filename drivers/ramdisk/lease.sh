#!/bin/busybox sh
# shellcheck shell=dash
# Called by udhcpc, which passes the lease in the environment.
# shellcheck disable=SC2154 # interface, ip, mask, router come from udhcpc
case $1 in
    deconfig)
        ip -4 addr flush dev "$interface"
        ip link set "$interface" up
        ;;
    bound | renew)
        ip -4 addr flush dev "$interface"
        ip addr add "$ip/$mask" dev "$interface"
        for gateway in $router; do
            ip route add default via "$gateway" dev "$interface" && break
        done
        ;;
esac
exit 0
