"""The kernel settings of a `stub` host: files of its own with the values that this computer's kernel has."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path

_SYS = Path("/proc/sys")
_PATTERNS = (
    "fs/aio-max-nr",
    "fs/file-max",
    "fs/inotify/*",
    "fs/nr_open",
    "fs/protected_*",
    "kernel/cap_last_cap",
    "kernel/core_pattern",
    "kernel/dmesg_restrict",
    "kernel/kptr_restrict",
    "kernel/ngroups_max",
    "kernel/overflow*",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/pid_max",
    "kernel/sched_rt_runtime_us",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/sysrq",
    "kernel/threads-max",
    "net/core/*mem_*",
    "net/core/default_qdisc",
    "net/core/netdev_max_backlog",
    "net/core/somaxconn",
    "net/ipv4/conf/[ad][le][lf]*/a[cr][cp]*",
    "net/ipv4/conf/[ad][le][lf]*/*_redirects",
    "net/ipv4/conf/[ad][le][lf]*/forwarding",
    "net/ipv4/conf/[ad][le][lf]*/log_martians",
    "net/ipv4/conf/[ad][le][lf]*/rp_filter",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv4/neigh/default/gc_thresh*",
    "net/ipv4/tcp_*mem",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/tcp_fin_timeout",
    "net/ipv4/tcp_keepalive_*",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_mtu_probing",
    "net/ipv4/tcp_syncookies",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv6/conf/[ad][le][lf]*/accept_ra",
    "net/ipv6/conf/[ad][le][lf]*/autoconf",
    "net/ipv6/conf/[ad][le][lf]*/disable_ipv6",
    "net/ipv6/conf/[ad][le][lf]*/forwarding",
    "vm/dirty_*",
    "vm/max_map_count",
    "vm/min_free_kbytes",
    "vm/nr_hugepages",
    "vm/overcommit_*",
    "vm/swappiness",
    "vm/vfs_cache_pressure",
)
"""Settings that operators change, and those that programs need to run."""


def read_sysctls() -> dict[str, bytes]:
    """Path below /proc/sys → value, as this computer's kernel has them now; those that may not be read are left out."""
    found: dict[str, bytes] = {}
    for pattern in _PATTERNS:
        for path in _SYS.glob(pattern):
            with contextlib.suppress(OSError):
                if path.is_file():
                    found[str(path.relative_to(_SYS))] = path.read_bytes()
    return found


def lay_out(values: Mapping[str, bytes], target: Path, *, boot_id: str) -> None:
    """`target` is what a freshly booted host has under /proc/sys."""
    shutil.rmtree(target, ignore_errors=True)
    for path in sorted({str(Path(name).parent) for name in (*values, "kernel/random/boot_id")}):
        (target / path).mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (target / name).write_bytes(value)
    (target / "kernel/random/boot_id").write_text(boot_id + "\n", encoding="ascii")
