"""DHCP and TFTP for machines that boot from the network, by dnsmasq."""
