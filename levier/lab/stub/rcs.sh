#!/bin/sh
# The boot of a stub host: its name, and its kernel settings as sysctl.d(5) has them.
[ -s /etc/hostname ] && hostname -F /etc/hostname
for file in /etc/sysctl.d/*.conf; do
    [ -f "$file" ] || continue
    while IFS='=' read -r key value; do
        key=$(echo "$key" | tr -d ' \t' | tr . /)
        case $key in '' | '#'* | ';'*) continue ;; esac
        [ -f "/proc/sys/$key" ] || { echo "sysctl: there is no $key"; continue; }
        echo $value > "/proc/sys/$key"
    done < "$file"
done
exit 0
