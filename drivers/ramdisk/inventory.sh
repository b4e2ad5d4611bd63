# shellcheck shell=dash
# What this machine is made of, in the form of docs/agent-protocol.md section 2. Sourced by agent.sh.

# first_line FILE: its first line without blanks around it; nothing when there is none
first_line() {
    [ -r "$1" ] || return 0
    head -n 1 "$1" 2>/dev/null | tr -d '\000\r' | sed 's/^[[:space:]]*//; s/[[:space:]]*$//'
}

# item KEY VALUE: a line, unless the value is unknown
item() {
    [ -n "$2" ] && echo "$1=$2"
    return 0
}

# Installed memory from the firmware's table (SMBIOS specification, type 17): the kernel's own count lacks what firmware and kernel keep.
memory_mib() {
    installed=0
    if [ -r /sys/firmware/dmi/tables/DMI ]; then
        installed=$(od -An -v -t u1 /sys/firmware/dmi/tables/DMI | awk '
            { for (i = 1; i <= NF; i++) byte[total++] = $i }
            END {
                for (at = 0; at + 4 <= total && byte[at + 1] >= 4; at = next_at) {
                    type = byte[at]; length_ = byte[at + 1]
                    if (type == 17 && length_ >= 14) {
                        size = byte[at + 12] + 256 * byte[at + 13]
                        if (size == 32767 && length_ >= 32)
                            size = byte[at + 28] + 256 * byte[at + 29] + 65536 * byte[at + 30] + 16777216 * (byte[at + 31] % 128)
                        else if (size >= 32768) size = (size != 65535) ? int((size - 32768) / 1024) : 0
                        sum += size
                    }
                    for (next_at = at + length_; next_at + 1 < total; next_at++)
                        if (byte[next_at] == 0 && byte[next_at + 1] == 0) break
                    next_at += 2
                    if (type == 127) break
                }
                print sum + 0
            }')
    fi
    if [ "${installed:-0}" -gt 0 ]; then
        echo "$installed"
    else
        awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo
    fi
}

# disk_names: whole, fixed, writable disks
disk_names() {
    for path in /sys/block/*; do
        name=${path##*/}
        case $name in loop* | ram* | zram* | sr* | fd* | dm-* | md* | nbd*) continue ;; esac
        [ -e "$path/device" ] || continue
        [ "$(first_line "$path/removable")" = 0 ] || continue
        [ "$(first_line "$path/ro")" = 0 ] || continue
        [ "$(first_line "$path/size")" -gt 0 ] || continue
        echo "$name"
    done
}

# disk_size_bytes NAME (sysfs counts in units of 512 bytes whatever the disk's sector size)
disk_size_bytes() {
    echo $(($(first_line "/sys/block/$1/size") * 512))
}

disk_serial() {
    for file in "/sys/block/$1/serial" "/sys/block/$1/device/serial"; do
        value=$(first_line "$file")
        [ -n "$value" ] && echo "$value" && return
    done
    # SCSI and SATA: vital product data page 80h, four bytes of header (SPC-4, 7.8.15)
    if [ -r "/sys/block/$1/device/vpd_pg80" ]; then
        tail -c +5 "/sys/block/$1/device/vpd_pg80" | tr -d '\000' | sed 's/^[[:space:]]*//; s/[[:space:]]*$//'
    fi
}

disk_wwn() {
    for file in "/sys/block/$1/wwid" "/sys/block/$1/device/wwid"; do
        value=$(first_line "$file")
        [ -n "$value" ] && echo "$value" && return
    done
}

nic_names() {
    for path in /sys/class/net/*; do
        [ -e "$path/device" ] && echo "${path##*/}"
    done
}

inventory() {
    item serial "$(first_line /sys/class/dmi/id/product_serial)"
    item vendor "$(first_line /sys/class/dmi/id/sys_vendor)"
    item product "$(first_line /sys/class/dmi/id/product_name)"
    if [ -d /sys/firmware/efi ]; then item firmware uefi; else item firmware bios; fi
    item cpu_model "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)"
    item cpu_count "$(grep -c '^processor' /proc/cpuinfo)"
    item memory_mib "$(memory_mib)"
    for disk in $(disk_names); do
        item "disk.$disk.size_bytes" "$(disk_size_bytes "$disk")"
        item "disk.$disk.model" "$(first_line "/sys/block/$disk/device/model")"
        item "disk.$disk.serial" "$(disk_serial "$disk")"
        item "disk.$disk.wwn" "$(disk_wwn "$disk")"
        item "disk.$disk.rotational" "$(first_line "/sys/block/$disk/queue/rotational")"
    done
    for nic in $(nic_names); do
        item "nic.$nic.mac" "$(first_line "/sys/class/net/$nic/address" | tr 'A-F' 'a-f')"
        item "nic.$nic.link" "$(cat "/sys/class/net/$nic/carrier" 2>/dev/null || echo 0)"
    done
}
