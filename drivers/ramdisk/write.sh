# shellcheck shell=dash
# Puts an image and a seed on a disk: docs/agent-protocol.md section 4. Sourced by agent.sh.
# Every function returns non-zero after it has reported its failure.

PROGRESS_S=2
STALL_S=60
# By their paths: busybox's shell prefers its own applets, which cannot write zeros, copy 1 KiB at a time and look at every byte.
WC=/usr/sbin/wc
TEE=/usr/sbin/tee
BLKDISCARD=/usr/sbin/blkdiscard

# write_order ANSWER_FILE: carries out one `action=write`
write_order() {
    disk=$(answer_value disk "$1")
    image_url=$(answer_value image_url "$1")
    image_sha256=$(answer_value image_sha256 "$1")
    image_size_bytes=$(answer_value image_size_bytes "$1")
    raw_size_bytes=$(answer_value raw_size_bytes "$1")
    seed_url=$(answer_value seed_url "$1")
    device=/dev/$disk
    check_disk && write_disk && verify_digest && write_seed
}

check_disk() {
    report write started
    if [ -z "$disk" ] || ! disk_names | grep -qxF "$disk"; then
        fail write "there is no disk '$disk'; this machine has: $(disk_names | tr '\n' ' ')"
        return 1
    fi
    size=$(disk_size_bytes "$disk")
    if [ "$size" -lt "$raw_size_bytes" ]; then
        fail write "disk $disk is too small: it has $size bytes, the image needs $raw_size_bytes"
        return 1
    fi
}

# clear_disk: no old signature is left; sets sparse=1 when the image's whole range is known to read as zeros
clear_disk() {
    sparse=0
    size_mib=$(($(disk_size_bytes "$disk") / 1048576))
    dd if=/dev/zero of="$device" bs=1M count=1 conv=notrunc 2>/run/dd.error || return 1
    # The last 2 MiB: also covers the part beyond the last whole MiB, where the backup GPT lies.
    dd if=/dev/zero of="$device" bs=1M seek=$((size_mib - 1)) count=2 conv=notrunc 2>/dev/null
    "$BLKDISCARD" -f "$device" 2>/dev/null
    # Discarded blocks may read as anything. Only the device's own write-zeroes promises zeros, and only where it has it is that cheap.
    if [ "$(first_line "/sys/block/$disk/queue/write_zeroes_max_bytes")" -gt 0 ] &&
        "$BLKDISCARD" -f -z -l "$raw_size_bytes" "$device" 2>/dev/null; then
        sparse=1
    fi
    return 0
}

write_disk() {
    say "clearing $disk"
    if ! clear_disk; then
        fail write "disk $disk cannot be written: $(one_line /run/dd.error)"
        return 1
    fi
    say "writing the image to $disk"
    rm -f /run/stream.* /run/fetch.* /run/digest /run/length /run/zstd.status /run/zstd.error
    mkfifo /run/stream.raw /run/stream.digest /run/stream.length /run/stream.unpack
    sha256sum </run/stream.digest >/run/digest &
    digest_pid=$!
    "$WC" -c </run/stream.length >/run/length &
    length_pid=$!
    unpack </run/stream.unpack &
    unpack_pid=$!
    "$TEE" /run/stream.digest /run/stream.length </run/stream.raw >/run/stream.unpack &
    wget -q -O - --header "Authorization: Bearer $SESSION" "$image_url" >/run/stream.raw 2>/run/http.error &
    fetch_pid=$!
    watch_fetch &
    watch_pid=$!
    wait "$fetch_pid"
    fetch_status=$?
    kill "$watch_pid" 2>/dev/null
    wait "$watch_pid"
    wait "$digest_pid" "$length_pid" "$unpack_pid"
    finish_write
}

# unpack: zstd to the disk. When it fails, the rest of the stream is still taken in, so that the digest tells what is wrong with it.
unpack() {
    if [ "$sparse" = 1 ]; then mode=--sparse; else mode=--no-sparse; fi
    # No thread of its own for writing: on one slow core the changes between threads cost as much as the work.
    zstd -q -d -c --no-asyncio "$mode" >"$device" 2>/run/zstd.error
    echo $? >/run/zstd.status
    cat >/dev/null
}

# watch_fetch: reports progress until it is told to end; ends the download when nothing has come for STALL_S or the session is over
watch_fetch() {
    ended=0
    trap 'ended=1' TERM
    last=0
    quiet_s=0
    while [ "$ended" = 0 ]; do
        # A signal interrupts `wait`, not `sleep`: the end of the download is never slept through.
        sleep "$PROGRESS_S" &
        wait $!
        [ "$ended" = 0 ] || break
        now=$(sed -n 's/^wchar: //p' "/proc/$fetch_pid/io" 2>/dev/null)
        [ -n "$now" ] || break
        if [ "$now" -gt "$last" ]; then quiet_s=0; else quiet_s=$((quiet_s + PROGRESS_S)); fi
        last=$now
        # Off by the few bytes of the request; the exact number comes with `done`.
        report_progress "$now"
        if [ $? -eq 2 ]; then
            touch /run/fetch.withdrawn
            kill "$fetch_pid"
            break
        fi
        if [ "$quiet_s" -ge "$STALL_S" ]; then
            echo "$now" >/run/fetch.stalled
            kill "$fetch_pid"
            break
        fi
    done
}

finish_write() {
    if [ -e /run/fetch.withdrawn ]; then
        say "the session was ended while the image was being written"
        return 1
    fi
    if [ -e /run/fetch.stalled ]; then
        fail write "the image stopped coming: nothing for $STALL_S s after $(first_line /run/fetch.stalled) of $image_size_bytes bytes"
        return 1
    fi
    if [ "$fetch_status" -ne 0 ]; then
        fail write "the image cannot be fetched: $(http_cause) ($(first_line /run/length) of $image_size_bytes bytes came)"
        return 1
    fi
    found_sha256=$(cut -d ' ' -f 1 /run/digest)
    if [ "$(cat /run/zstd.status)" != 0 ] && [ "$found_sha256" = "$image_sha256" ]; then
        fail write "the image cannot be written to $disk: $(one_line /run/zstd.error)"
        return 1
    fi
    report write "done" "" "$(first_line /run/length)"
}

verify_digest() {
    say "verifying"
    report verify started
    length=$(first_line /run/length)
    if [ "$found_sha256" != "$image_sha256" ] || [ "$length" != "$image_size_bytes" ]; then
        fail verify "image checksum mismatch: expected $image_sha256 ($image_size_bytes bytes), got $found_sha256 ($length bytes)"
        return 1
    fi
    if ! sync -d "$device" 2>/run/sync.error; then
        fail verify "disk $disk did not keep what was written: $(one_line /run/sync.error)"
        return 1
    fi
    report verify "done"
}

# root_partition: device name of the partition of this disk whose GPT name is `root`
root_partition() {
    for uevent in "/sys/block/$disk/$disk"*/uevent; do
        if grep -qx 'PARTNAME=root' "$uevent" 2>/dev/null; then
            partition=${uevent%/uevent}
            echo "${partition##*/}"
            return 0
        fi
    done
    return 1
}

write_seed() {
    say "writing the seed"
    report seed started
    blockdev --rereadpt "$device" 2>/run/seed.error
    if ! partition=$(root_partition); then
        fail seed "the image has no partition named 'root' $(one_line /run/seed.error)"
        return 1
    fi
    until http_get "$seed_url" "$SESSION" /run/seed.tar; do
        if [ $? -ne 1 ]; then
            fail seed "the seed cannot be fetched: $(http_cause)"
            return 1
        fi
        say "the seed cannot be fetched yet: $(http_cause)"
        sleep 4
    done
    if ! mount -t ext4 "/dev/$partition" /mnt 2>/run/seed.error; then
        fail seed "the root partition $partition cannot be mounted: $(one_line /run/seed.error)"
        return 1
    fi
    tar -x -f /run/seed.tar -C /mnt 2>/run/seed.error
    unpacked=$?
    rm -f /run/seed.tar
    if ! umount /mnt 2>>/run/seed.error || [ "$unpacked" -ne 0 ]; then
        fail seed "the seed cannot be unpacked: $(one_line /run/seed.error)"
        return 1
    fi
    if ! sync -d "$device" 2>/run/seed.error; then
        fail seed "disk $disk did not keep the seed: $(one_line /run/seed.error)"
        return 1
    fi
    report seed "done"
    say "done"
}
