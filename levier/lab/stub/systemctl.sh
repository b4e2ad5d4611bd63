#!/bin/sh
# What a stub host has in the place of systemd: a machine that can be restarted and switched off.
case ${0##*/} in
    systemctl) verb=${1:-} ;;
    *) verb=${0##*/} ;;
esac
case $verb in
    reboot | poweroff | halt) echo "$verb" > /run/initctl ;;
    *)
        echo "systemctl $*: this host has no services: it is a stub host of Levier's virtual rack" >&2
        exit 1
        ;;
esac
