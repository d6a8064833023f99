"""The connection to libvirt: the embedded driver (no daemon) by default, any other URI by option."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from testbed.errors import HostError
from testbed.lab.build import cache
from testbed.lab.machines import reap

# libvirt reads this once, when it is imported, and would print what reaches us as exceptions, and a warning a machine.
# Hence this module imports it, and the others take it from here.
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")
import libvirt as libvirt  # noqa: PLC0414

log = logging.getLogger(__name__)

INSTALL = "apt install libvirt-daemon-system qemu-system-x86"

# The driver as a library in our process: no daemon's user, no cgroups, no log daemon, nothing confined.
_QEMU_CONF = """\
security_driver = "none"
# Else libvirt writes owners into attributes of every file that a machine reads, the cache among them.
remember_owner = 0
security_default_confined = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""
_AS_ROOT = 'user = "+0"\ngroup = "+0"\n'
_LONGEST_ROOT = 40  # bytes: libvirt appends /lib/qemu/domain-NUMBER-NAME/monitor.sock, 107 in all


@contextmanager
def connection(uri: str | None) -> Iterator[libvirt.virConnect]:
    """Hold a connection to ``uri``; ``None`` is the embedded driver. Raises ``HostError``."""
    start_event_loop()
    try:
        opened = libvirt.open(uri or f"qemu:///embed?root={quote(bytes(embedded_root()))}")
    except libvirt.libvirtError as error:
        raise HostError(f"libvirt: cannot open {uri or 'the embedded driver'}: {error}", INSTALL) from error
    try:
        yield opened
    finally:
        opened.close()


def destroy(uri: str, domain: str) -> bool:
    """End a machine (its UUID) at ``uri``; tell whether it is gone now."""
    try:
        with connection(uri) as opened:
            opened.lookupByUUIDString(domain).destroy()
    except libvirt.libvirtError as error:
        return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)
    except HostError:
        return False
    return True


@functools.cache
def start_event_loop() -> None:
    """Start libvirt's event loop, once a process and before the first connection; its thread ends with the process."""
    libvirt.registerErrorHandler(lambda _context, error: log.debug("libvirt: %s", error[2]), None)
    libvirt.virEventRegisterDefaultImpl()

    def turn() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=turn, name="libvirt-events", daemon=True).start()


@functools.cache
def embedded_root() -> Path:
    """Return the embedded driver's private root. libvirt allows one a process; it is removed when the process ends."""
    root = short_directory() / reap.private_name()
    stack = ExitStack()
    stack.enter_context(reap.holding(root))
    atexit.register(stack.close)
    root.chmod(0o700)
    (root / "etc").mkdir()
    (root / "etc" / "qemu.conf").write_text(_QEMU_CONF + (_AS_ROOT if os.getuid() == 0 else ""), encoding="utf-8")
    # What QEMU can do takes a while to find out. libvirt checks that its notes fit the QEMU: all processes share them.
    notes = cache.root() / "libvirt"
    notes.mkdir(parents=True, exist_ok=True)
    (root / "cache").symlink_to(notes)
    return root


def short_directory() -> Path:
    """Return a directory for directories with sockets: their paths have 108 bytes."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if (
        Path(runtime).is_absolute()
        and len(runtime) <= _LONGEST_ROOT - len(reap.private_name())
        and os.access(runtime, os.W_OK | os.X_OK)
    ):
        return Path(runtime)
    return Path("/tmp" if len(tempfile.gettempdir()) > _LONGEST_ROOT else tempfile.gettempdir())  # noqa: S108 -- short
