# What the apt driver runs on a host. The functions print what the driver reads; work that changes something is done by
# `work`, in a transient unit of systemd: it outlives the SSH session, is bounded, and only one runs at a time.
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
unit=levier-packages.service
policy=/etc/levier/policy-rc.d
asked=/usr/sbin/policy-rc.d
log=/run/levier/packages.log
not_ended="an earlier run of Levier, $unit, has not ended"
active=/run/levier/packages.active

# `installed WAIT`: what the database knows while nothing of Levier's works on it. Status as of `alone`.
installed() {
    alone "$1" || return
    echo "architecture $(dpkg --print-architecture)"
    [ -z "$(ls /var/lib/dpkg/updates)" ] || echo interrupted
    dpkg-query -W -f 'package ${db:Status-Status} ${db:Status-Eflag} ${Package} ${Architecture} ${Version}\n'
}
offers() { apt-cache policy -- "$@"; }
# Told from the sources alone: lists need not have been fetched.
repositories() { apt-get update --print-uris | sed -n "s,^'\([^']*\)/[^/']*' .*,\1,p" | sed 's,/dists/.*,,' | sort -u; }
simulate() { apt-get install --simulate --quiet --no-install-recommends --allow-downgrades -- "$@" 2>&1; }
simulate_purge() { apt-get purge --simulate --quiet -- "$@" 2>&1; }
# Sizes of NAME=VERSION… as the archive states them, and of what is installed of NAME…, in KiB.
sizes() { apt-cache show --no-all-versions -- "$@" | sed -n 's/^\(Package\|Version\|Size\|Installed-Size\): /\1 /p'; }
# `free PATH…`: device and free KiB of the file system that each is on.
free() { for path in "$@"; do df --output=source,avail -k -- "$path" | tail -n 1; done; }

# Who kills a unit with all it has may also kill what tidies up after it.
forget_mount_point() { [ -s "$asked" ] || rm -f -- "$asked"; }
running() { case $(systemctl show --property=ActiveState --value "$unit") in inactive | failed | '') false ;; esac; }

# `alone WAIT`: no unit is at work, nor is one begun as long as this shell lives; an earlier one is waited for, WAIT
# seconds. Status 75: it has not ended, which is printed; 74: nobody can be kept out.
alone() {
    end=$(($(date +%s) + $1))
    install -d -m 0755 /run/levier || return 74
    # The lock is for those who come at the same time; the look at the unit for one whose starter is gone.
    exec 9> /run/levier/packages.lock
    flock -w "$1" 9 || { echo "$not_ended"; return 75; }
    while running; do
        [ "$(date +%s)" -lt "$end" ] || { echo "$not_ended"; return 75; }
        sleep 0.2
    done
}

# What a unit needs; removed after it, as is an empty directory.
prepare() {
    forget_mount_point
    : > "$log" &&
        systemctl list-units --state=active,activating,reloading --plain --no-legend > "$active.units" &&
        cut -d ' ' -f 1 "$active.units" > "$active" &&
        install -d -m 0755 "${policy%/*}" &&
        printf '%s' "$policy_text" > "$policy" &&
        chmod 0755 "$policy" &&
        # In files: what a package's script does with `systemctl daemon-reload` makes systemd read the unit again, and
        # systemd 252 then stumbles over quotes and line breaks in it (seen: the unit failed, what follows did not run).
        printf '%s' "$script" > /run/levier/packages.sh &&
        printf '[ -s %s ] || rm -f %s\nrm -f %s\nrmdir %s 2> /dev/null\nexit 0\n' \
            "$asked" "$asked" "$policy" "${policy%/*}" > /run/levier/packages-after.sh
}
# `work WAIT LIMIT`: runs $script as the unit for at most LIMIT seconds, once an earlier one has ended, for which it waits
# WAIT seconds. Prints what it printed. Status 75: something else works on the packages; 74: nothing could be begun.
work() {
    alone "$1" || return
    prepare || return 74
    # The mount is the unit's own: nobody else on the host sees the policy, and it ends with the unit. systemd makes an
    # empty file to mount on, which means nothing to those who ask; it goes when the unit ends, however that ends.
    systemd-run --quiet --wait --collect --unit="$unit" --description="Levier: packages" --service-type=exec \
        --property=RuntimeMaxSec="$2" --property=TimeoutStopSec=20 \
        --property=BindReadOnlyPaths="$policy:$asked" \
        --property=ExecStopPost="nsenter --target=1 --mount sh /run/levier/packages-after.sh" \
        --setenv=LC_ALL=C --setenv=PATH="$PATH" --setenv=HOME=/root --setenv=DEBIAN_FRONTEND=noninteractive \
        --setenv=DEBIAN_PRIORITY=critical --setenv=NEEDRESTART_SUSPEND=1 --setenv=APT_LISTCHANGES_FRONTEND=none \
        --setenv=UCF_FORCE_CONFFOLD=1 --setenv=patience="$1" --setenv=log="$log" \
        sh /run/levier/packages.sh
    status=$?
    forget_mount_point
    tail -c 20000 "$log"
    return "$status"
}
