# Inside the unit. `patiently COMMAND…` repeats it while another program holds a lock of apt's or dpkg's, for $patience
# seconds; then the status is 75. The file $log holds what the last attempt printed.
begun=$(date +%s)
patiently() {
    while :; do
        "$@" > "$log" 2>&1 < /dev/null && return 0
        status=$?
        grep -qE 'Could not get lock|Unable to (acquire|lock)|was locked by|database is locked' "$log" ||
            return "$status"
        [ "$(($(date +%s) - begun))" -lt "$patience" ] || return 75
        sleep 0.5
    done
}
apt() {
    apt-get --quiet --assume-yes -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef \
        -o Dpkg::Options::=--force-confold -o Acquire::Retries=1 -o Acquire::http::Timeout=20 \
        -o Acquire::https::Timeout=20 -o APT::Keep-Downloaded-Packages=false "$@"
}
# `update`: fails when a mirror cannot be asked. What takes a slow processor long is left out: lists are fetched as gzip
# where the mirror has them so (xz costs five times as much to unpack), and translations of descriptions not at all.
update() {
    patiently apt -o APT::Update::Error-Mode=any -o Acquire::Languages=none -o Acquire::CompressionTypes::Order::=gz update
}
# `install PACKAGE…`: fetched as a whole first, so that a mirror that fails has changed nothing (then the status is 11).
install() {
    patiently apt install --no-install-recommends --no-remove --allow-downgrades --download-only -- "$@" || {
        status=$?
        [ "$status" = 75 ] || status=11
        return "$status"
    }
    patiently apt install --no-install-recommends --no-remove --allow-downgrades --no-download -- "$@"
}
