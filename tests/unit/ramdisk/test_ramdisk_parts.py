"""Kernel choice, module choice and the libraries that come along."""

from __future__ import annotations

import pytest

from drivers.ramdisk.kernel import KernelPackage, parse_kernel_package
from drivers.ramdisk.modules import DriverSet, parse_dependencies, prefixes_of, select_modules
from drivers.ramdisk.userland import parse_libraries
from levier.domain.errors import MalformedReply

MODULES_DEP = """\
kernel/drivers/net/virtio_net.ko: kernel/net/core/failover.ko kernel/drivers/virtio/virtio.ko
kernel/net/core/failover.ko:
kernel/drivers/virtio/virtio.ko:
kernel/drivers/net/ethernet/intel/igb/igb.ko: kernel/drivers/i2c/algos/i2c-algo-bit.ko
kernel/drivers/i2c/algos/i2c-algo-bit.ko:
kernel/drivers/gpu/drm/ast/ast.ko: kernel/drivers/i2c/algos/i2c-algo-bit.ko
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
"""


def test_needed_modules_come_along_and_others_do_not() -> None:
    table = parse_dependencies(MODULES_DEP)
    chosen = select_modules(table, prefixes_of(DriverSet.ALL))
    assert set(chosen) == set(table) - {"kernel/drivers/gpu/drm/ast/ast.ko"}
    assert list(chosen) == sorted(chosen)


def test_the_virtual_set_has_no_drivers_of_real_network_cards() -> None:
    chosen = select_modules(parse_dependencies(MODULES_DEP), prefixes_of(DriverSet.VIRTUAL))
    assert "kernel/drivers/net/virtio_net.ko" in chosen
    assert not any("igb" in module for module in chosen)


def test_a_line_of_another_form_is_an_error() -> None:
    with pytest.raises(MalformedReply):
        parse_dependencies("kernel/fs/ext4/ext4.ko\n")


def test_the_meta_package_names_the_kernel() -> None:
    record = "Package: linux-image-amd64\nDepends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)\nDescription: x\n"
    package = parse_kernel_package(record)
    assert package == KernelPackage("linux-image-6.1.0-56-amd64", "6.1.192-2")
    assert package.release == "6.1.0-56-amd64"
    with pytest.raises(MalformedReply):
        parse_kernel_package("Package: linux-image-amd64\n")


def test_libraries_with_their_loader() -> None:
    output = (
        "\tlinux-vdso.so.1 (0x00007f1183b3d000)\n"
        "\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f11839d2000)\n"
        "\t/lib64/ld-linux-x86-64.so.2 (0x00007f1183b3f000)\n"
    )
    assert parse_libraries(output) == ("/lib/x86_64-linux-gnu/libz.so.1", "/lib64/ld-linux-x86-64.so.2")
