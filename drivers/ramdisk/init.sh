#!/bin/busybox sh
# shellcheck shell=dash
# First process of the deploy ramdisk: mounts, drivers, then the agent.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
umask 077

mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid devtmpfs /dev
mount -t tmpfs -o nosuid,nodev tmpfs /run

# Only trouble on the console from here on: the agent's own words must stay readable.
dmesg -n 4
echo "levier: deploy ramdisk, kernel $(uname -r)"

# Buses bring up further buses (controller, port, disk): load until nothing new appears.
seen=""
for _ in 1 2 3 4 5; do
    # shellcheck disable=SC2046 # one word per line, and no blanks in a modalias
    aliases=$(sort -u $(find /sys/devices -name modalias) </dev/null)
    [ "$aliases" = "$seen" ] && break
    seen=$aliases
    # shellcheck disable=SC2086 # a list on purpose
    modprobe -q -a -b $aliases 2>/dev/null
done
modprobe -q ext4

/bin/busybox sh /levier/agent.sh
echo "levier: the agent ended, which it never should; the machine stays as it is"
while :; do sleep 3600; done
