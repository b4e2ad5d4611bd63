# shellcheck shell=dash
# Brings up the interface the boot entry names. Sourced by agent.sh.

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
    say "network: $boot_nic $(ip -4 -o addr show dev "$boot_nic" | awk '{ print $4 }')"
}
