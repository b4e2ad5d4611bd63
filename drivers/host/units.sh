# How systemd units stand, one line each: NAME FILE-STATE ACTIVE-STATE SECONDS-SINCE-START
export LC_ALL=C
observe() {
    up=$(cut -d' ' -f1 /proc/uptime)
    for unit in "$@"; do
        file=$(systemctl show --property=UnitFileState --value -- "$unit")
        active=$(systemctl show --property=ActiveState --value -- "$unit")
        since=$(systemctl show --property=ActiveEnterTimestampMonotonic --value -- "$unit")
        echo "$unit ${file:-absent} $active $(awk -v up="$up" -v at="${since:-0}" 'BEGIN { printf "%.3f", up - at / 1e6 }')"
    done
}

# newest FILE…: seconds since the newest of them was written; 1e9 without any.
newest() {
    now=$(date +%s.%N)
    stat -c '%.Y' -- "$@" 2>/dev/null | awk -v now="$now" 'BEGIN { age = 1e9 } { if (now - $1 < age) age = now - $1 } END { printf "%.3f\n", age }'
}
