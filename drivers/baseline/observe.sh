# Each function prints exactly one line. Content is base64, so that it can hold anything.
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
attributes() { stat -c '%a %U:%u %G:%g' -- "$1"; }
file() {
    if [ -L "$1" ]; then printf 'file link %s %s\n' "$(attributes "$1")" "$(readlink -n -- "$1" | base64 -w0)"
    elif [ -f "$1" ]; then printf 'file file %s %s\n' "$(attributes "$1")" "$(base64 -w0 < "$1")"
    elif [ -e "$1" ]; then echo 'file other'
    else echo 'file absent'
    fi
}
directory() { if [ -d "$1" ]; then echo 'directory present'; else echo 'directory absent'; fi; }
setting() {
    if [ -f "/proc/sys/$1" ]; then printf 'setting value %s\n' "$(cat "/proc/sys/$1" 2>/dev/null | base64 -w0)"
    else echo 'setting absent'
    fi
}
host_name() { printf 'hostname %s\n' "$(uname -n)"; }
# timedatectl asks over D-Bus and waits long for a service that does not run: it is asked only when it does.
time_sync() {
    if systemd-detect-virt --container --quiet; then echo 'timesync container'
    elif ! systemctl cat systemd-timesyncd.service >/dev/null 2>&1; then echo 'timesync missing'
    elif ! systemctl is-active --quiet systemd-timesyncd.service; then echo 'timesync inactive'
    else printf 'timesync active %s\n' "$(timedatectl show-timesync --property=SystemNTPServers --value)"
    fi
}
