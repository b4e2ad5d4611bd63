# shellcheck shell=dash
# Brings up the interface the boot entry names. Sourced by agent.sh.

LINK_S=3

# nic_with_mac MAC: its name
nic_with_mac() {
    for nic in $(nic_names); do
        if [ "$(first_line "/sys/class/net/$nic/address" | tr 'A-F' 'a-f')" = "$1" ]; then
            echo "$nic"
            return 0
        fi
    done
    return 1
}

# has_link NAME
has_link() {
    [ "$(cat "/sys/class/net/$1/carrier" 2>/dev/null)" = 1 ]
}

# wait_for_links: every interface has a link, or had LINK_S seconds more than the boot interface needed
wait_for_links() {
    for _ in $(seq $((LINK_S * 5))); do
        missing=0
        for nic in $(nic_names); do
            has_link "$nic" || missing=1
        done
        [ "$missing" = 1 ] || return 0
        sleep 0.2
    done
}

# network_up MAC: returns once the interface has an address. Asks for as long as it takes: without a network there is nobody to report to.
network_up() {
    until boot_nic=$(nic_with_mac "$1"); do
        say "no network interface has the address $1 yet; present: $(nic_names | tr '\n' ' ')"
        sleep 2
    done
    ip link set lo up
    for nic in $(nic_names); do
        ip link set "$nic" up || say "interface $nic does not come up"
    done
    until udhcpc -q -n -f -t 10 -T 1 -i "$boot_nic" -s /levier/lease.sh >/run/udhcpc.log 2>&1; do
        say "no answer from DHCP on $boot_nic ($1); asking again"
        sleep 1
    done
    wait_for_links
    say "network: $boot_nic $(ip -4 -o addr show dev "$boot_nic" | awk '{ print $4 }')"
}
