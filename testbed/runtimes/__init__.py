"""A container runtime: how the guest starts a container with it. Values only.

To add one, write ``runtimes/NAME.py`` with a module-level ``RUNTIME``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One way to start a container.

    ``start``: the words before the image; ``{cgroup}`` is the cgroup below which the runtime puts everything that it
    starts, ``{cidfile}`` the file to which it writes its own id of the container.
    ``load``: the words that bring an OCI archive (on standard input) into its store.
    """

    name: str
    summary: str
    start: tuple[str, ...]
    load: tuple[str, ...]

    def argv(self, *, cgroup: str, cidfile: str, image: str, command: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command that starts one container of ``image`` and waits for its end."""
        words = tuple(word.format(cgroup=cgroup, cidfile=cidfile) for word in self.start)
        return (*words, image, *command)


def podman_with(oci_runtime: str) -> Runtime:
    """Return podman with the OCI runtime of this name.

    The ``cgroupfs`` manager puts conmon and the container below one parent, so that one ``cpu.stat`` accounts for both.
    """
    podman = ("podman", "--cgroup-manager=cgroupfs", f"--runtime={oci_runtime}", "--log-level=error")
    run = ("run", "--rm", "--network=none", "--pull=never", "--log-driver=none")
    return Runtime(
        name=oci_runtime,
        summary=f"podman with {oci_runtime}",
        start=(*podman, *run, "--cgroup-parent={cgroup}", "--cidfile={cidfile}"),
        load=("podman", "load", "--quiet"),
    )
