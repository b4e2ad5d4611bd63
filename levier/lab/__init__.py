"""The virtual rack: machines with real BMCs, made of QEMU or nspawn, that tell the truth about what was done to them.

Imports nothing of the product but domain types, so that what it reports cannot be coloured by what it checks.
"""
