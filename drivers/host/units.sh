# How systemd units stand, one line each: NAME FILE-STATE ACTIVE-STATE SECONDS-SINCE-START INVOCATION
export LC_ALL=C
observe() {
    up=$(cut -d' ' -f1 /proc/uptime)
    for unit in "$@"; do
        file=$(systemctl show --property=UnitFileState --value -- "$unit")
        active=$(systemctl show --property=ActiveState --value -- "$unit")
        since=$(systemctl show --property=ActiveEnterTimestampMonotonic --value -- "$unit")
        invocation=$(systemctl show --property=InvocationID --value -- "$unit")
        age=$(awk -v up="$up" -v at="${since:-0}" 'BEGIN { printf "%.3f", up - at / 1e6 }')
        echo "$unit ${file:-absent} $active $age ${invocation:-never}"
    done
}

# newest WHAT FILE…: seconds since the newest of them was written (WHAT: Y) or put in its place (Z); 1e9 without any.
newest() {
    what=$1
    shift
    now=$(date +%s.%N)
    stat -c "%.$what" -- "$@" 2>/dev/null | awk -v now="$now" 'BEGIN { age = 1e9 } { if (now - $1 < age) age = now - $1 } END { printf "%.3f\n", age }'
}
