"""The parts of the `nspawn` chassis' firmware: DHCP, iPXE scripts, the agent protocol and the disk.

Runs in a process of its own per machine, inside the machine's own network and mount namespaces.
"""
