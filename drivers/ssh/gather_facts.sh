# Prints everything that facts.py reads, section by section. POSIX sh; what a host lacks leaves its section empty.
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
section() { printf '\n==levier:%s==\n' "$1"; }
section hostname; uname -n
section kernel; uname -r
section os-release; cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release
section machine-id; cat /etc/machine-id
section boot-id; cat /proc/sys/kernel/random/boot_id
section cpus; getconf _NPROCESSORS_ONLN
section meminfo; grep '^MemTotal:' /proc/meminfo
section lsblk; lsblk -J -b -d -o NAME,SIZE,MODEL,SERIAL,WWN,ROTA,TYPE,RO,RM 2>/dev/null
section sysblock
if ! command -v lsblk >/dev/null; then
    for d in /sys/block/*; do
        [ -e "$d/device" ] || continue
        printf '%s|%s|%s|%s|%s|%s|%s|%s\n' "${d##*/}" "$(cat "$d/size")" "$(cat "$d/device/model" 2>/dev/null)" \
            "$(cat "$d/serial" 2>/dev/null || cat "$d/device/serial" 2>/dev/null)" "$(cat "$d/device/wwid" 2>/dev/null)" \
            "$(cat "$d/queue/rotational")" "$(cat "$d/ro")" "$(cat "$d/removable")"
    done
fi
section links; ip -j -d link show 2>/dev/null
section sysnet
if ! command -v ip >/dev/null; then
    for d in /sys/class/net/*; do
        printf '%s|%s|%s|%s|%s\n' "${d##*/}" "$(cat "$d/type")" "$(cat "$d/address")" \
            "$(cat "$d/carrier" 2>/dev/null)" "$(sed -n 's/^DEVTYPE=//p' "$d/uevent")"
    done
fi
section end
