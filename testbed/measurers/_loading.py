"""How one part of a measurer gets into a guest."""

from __future__ import annotations

from testbed.errors import DeployError
from testbed.guest import Guest


def bring(guest: Guest, argv: tuple[str, ...], what: str, hint: str) -> None:
    """Run a program in the guest. Raises ``DeployError``: ``what``, its standard error, the kernel's last lines."""
    done = guest.run(argv, check=False)
    if done.code:
        kernel = guest.run(("dmesg",), check=False).text.splitlines()[-5:]
        said = done.err.decode(errors="backslashreplace").strip()
        raise DeployError("\n".join([f"{what}: {said}", *kernel]), hint)
