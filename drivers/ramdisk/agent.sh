#!/bin/busybox sh
# shellcheck shell=dash
# The agent of the deploy ramdisk: docs/agent-protocol.md. It does what it is told, reports it, and never tries anything again by itself.
# No secret is ever printed: neither the token nor the session.

for part in http inventory network write; do
    # shellcheck disable=SC1090 # beside this file
    . "/levier/$part.sh"
done

# say TEXT: to the serial console and, where there is one, the screen
say() {
    echo "levier: $1"
    [ -c /dev/tty0 ] && [ "$(head -n 1 /sys/class/tty/console/active)" != tty0 ] && echo "levier: $1" 2>/dev/null >/dev/tty0
    return 0
}

# one_line FILE: its end, on one line
one_line() {
    [ -r "$1" ] && tail -c 400 "$1" | tr '\r\n' '  ' | sed 's/  */ /g; s/ $//'
}

# boot_parameter NAME: its value on the kernel's command line
boot_parameter() {
    tr ' ' '\n' </proc/cmdline | sed -n "s/^$1=//p" | head -n 1
}

# report STAGE STATE [DETAIL [BYTES_DONE]]: delivered, or refused. Without a connection, or while the service has no database, it is repeated.
report() {
    {
        echo "stage=$1"
        echo "state=$2"
        item detail "$(echo "${3:-}" | tr '\r\n' '  ' | sed 's/ *$//')"
        item bytes_done "${4:-}"
    } >/run/report
    until http_post /agent/report "$SESSION" /run/report /run/report.answer; do
        outcome=$?
        [ "$outcome" -eq 1 ] || return "$outcome"
        say "report $1/$2 is not delivered yet: $(http_cause)"
        sleep 4
    done
}

# report_progress BYTES: one attempt; the next one comes soon
report_progress() {
    printf 'stage=write\nstate=progress\nbytes_done=%s\n' "$1" >/run/report
    http_post /agent/report "$SESSION" /run/report /run/report.answer
}

# fail STAGE CAUSE
fail() {
    say "$1 failed: $2"
    report "$1" failed "$2"
}

power_off() {
    say "$1; powering off"
    sync
    poweroff -f
    sleep 60
}

# claim: trades the one-time token for a session. A request that was not delivered is repeated, a refusal is final.
claim() {
    inventory >/run/inventory
    until http_post /agent/claim "$(boot_parameter levier.token)" /run/inventory /run/claim; do
        outcome=$?
        if [ "$outcome" -ne 1 ]; then
            power_off "the boot service refuses this machine: $(http_cause)"
        fi
        say "the boot service cannot be reached: $(http_cause)"
        sleep 3
    done
    SESSION=$(answer_value session /run/claim)
    rm -f /run/claim
    [ -n "$SESSION" ] || power_off "the boot service gave no session"
    say "claimed; waiting for orders"
}

next_order() {
    until http_post /agent/next "$SESSION" /dev/null /run/next; do
        outcome=$?
        if [ "$outcome" -eq 2 ]; then
            power_off "the session has ended"
        fi
        say "no order from the boot service: $(http_cause)"
        sleep 5
    done
}

obey() {
    case $(answer_value action /run/next) in
        wait) ;;
        refuse)
            say "REFUSED: $(answer_value reason /run/next)"
            sleep 30
            ;;
        power-off) power_off "told to power off" ;;
        reboot)
            report reboot started
            say "rebooting"
            sync
            reboot -f
            sleep 60
            ;;
        write)
            if write_order /run/next; then say "the disk is ready"; fi
            ;;
        *)
            say "unknown order '$(answer_value action /run/next)'"
            sleep 5
            ;;
    esac
}

# shellcheck disable=SC2034 # http.sh reads it
BASE_URL=$(boot_parameter levier.url)
network_up "$(boot_parameter levier.mac | tr 'A-F' 'a-f')"
claim
while :; do
    next_order
    obey
done
