"""Debian root file systems: made by ``mmdebstrap`` from its usual sources, entered by ``bwrap``, without root."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from testbed import shell
from testbed.errors import BuildError, CommandError, HostError
from testbed.guest import Completed

# No file that the testbed makes has a later time (2025-06-15), so that the same packages give the same bytes.
EPOCH = 1_750_000_000
_PACKAGES = {"mmdebstrap": "mmdebstrap", "bwrap": "bubblewrap", "tar": "tar"}
_UNREAD = ("usr/share/doc/*", "usr/share/locale/*", "usr/share/man/*", "usr/share/info/*", "usr/share/lintian/*")
_STATUS = "var/lib/dpkg/status"
_MINUTES = 60.0
# ``extract`` leaves dpkg's list empty: what was unpacked is then known only while the packages are still there.
_LIST_PACKAGES = (
    'for deb in "$1"/var/cache/apt/archives/*.deb; do'
    ' dpkg-deb -W --showformat="Package: \\${Package}\\nVersion: \\${Version}\\n\\n" "$deb"; done'
    f' > "$1/{_STATUS}"'
)


def bootstrap_argv(
    suite: str,
    packages: Sequence[str],
    target: Path,
    *,
    variant: str,
    hooks: Sequence[str] = (),
    setup: Sequence[str] = (),
    last: Sequence[str] = (),
    outdated: bool = False,
) -> tuple[str, ...]:
    """Return the command that writes the root file system of ``suite`` with ``packages`` to the tar file ``target``.

    ``setup``: what is done before the lists of packages are fetched; ``hooks``: after the essential packages; ``last``:
    after all packages.
    """
    return (
        "mmdebstrap",
        f"--variant={variant}",
        '--aptopt=Acquire::Languages "none"',
        *(('--aptopt=Acquire::Check-Valid-Until "false"',) if outdated else ()),
        *(f"--dpkgopt=path-exclude=/{pattern}" for pattern in _UNREAD),
        f"--include={','.join(packages)}",
        *(f"--setup-hook={hook}" for hook in setup),
        *(f"--essential-hook={hook}" for hook in hooks),
        *(f"--customize-hook={hook}" for hook in last),
        *((f"--extract-hook={_LIST_PACKAGES}",) if variant == "extract" else ()),
        "--format=tar",
        suite,
        str(target),
    )


def bootstrap(
    suite: str,
    packages: Sequence[str],
    target: Path,
    *,
    variant: str = "minbase",
    hooks: Sequence[str] = (),
    setup: Sequence[str] = (),
    last: Sequence[str] = (),
    outdated: bool = False,
) -> None:
    """Write a root file system to the tar file ``target``. Raises ``BuildError``, ``HostError``."""
    _need("mmdebstrap")
    argv = bootstrap_argv(
        suite, packages, target, variant=variant, hooks=hooks, setup=setup, last=last, outdated=outdated
    )
    try:
        shell.run(argv, timeout=30 * _MINUTES, env={"SOURCE_DATE_EPOCH": str(EPOCH), "TMPDIR": _scratch(target.parent)})
    except CommandError as error:
        hint = (
            "check that this machine reaches a Debian mirror; on another distribution, install debian-archive-keyring"
        )
        if "is not valid yet" in error.message:
            hint = "the clock of this machine is behind: set it (`date` shows it)"
        raise BuildError(f"cannot make a root file system of {suite}: {error.message}", hint) from error


def suite_beside(suite: str, other: str, packages: Sequence[str]) -> tuple[str, ...]:
    """Return the setup that adds ``other`` wherever ``suite`` is a source, and has ``packages`` taken from there.

    So no mirror is named. Both forms of a source are known: a line, and a paragraph with ``Suites:``.
    """
    line = rf"s/^(deb .*) {suite} (.*)$/&\n\1 {other} \2/"
    paragraph = rf"s/^(Suites:(.* )?){suite}( .*)?$/& {other}/"
    files = '$(find "$1/etc/apt" -name "*.list" -o -name "*.sources")'
    pin = rf"Package: {' '.join(packages)}\nPin: release n={other}\nPin-Priority: 990\n"
    return (
        f"sed -i -E -e '{line}' -e '{paragraph}' {files}",
        f"grep -qw -e {other} {files} || {{ echo 'no source has the suite {suite}' >&2; exit 1; }}",
        f"printf '{pin}' > \"$1/etc/apt/preferences.d/{other}\"",
    )


def unpack(archive: Path, to: Path) -> None:
    """Unpack a root file system so that it can be entered: no device nodes, no owners, no setuid bits."""
    to.mkdir()
    keep = ("--no-same-owner", "--no-same-permissions", "--exclude=./dev/*", "--delay-directory-restore")
    shell.run(("tar", "-xf", archive, "-C", to, *keep), timeout=10 * _MINUTES)
    # Where ``enter`` mounts: the root is read-only by then.
    for name in ("src", "out", "dev", "proc", "tmp", "run"):
        (to / name).mkdir(exist_ok=True)


def enter_argv(
    root: Path, argv: Sequence[str], *, read: Mapping[Path, str], write: Mapping[Path, str], owner: int | None = None
) -> tuple[str, ...]:
    """Return the command that runs ``argv`` in ``root``: read-only, without network and without the user's environment.

    ``owner``: the user and group that the program sees itself as, and as the owner of its files; ``None``: the user's
    own.
    """
    identity = () if owner is None else ("--unshare-user", "--uid", str(owner), "--gid", str(owner))
    read_only = [word for path, at in read.items() for word in ("--ro-bind", str(path), at)]
    writable = [word for path, at in write.items() for word in ("--bind", str(path), at)]
    settings = {"PATH": "/usr/sbin:/usr/bin", "HOME": "/tmp", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(EPOCH)}  # noqa: S108 - inside the root
    return (
        *("bwrap", "--unshare-all", "--die-with-parent", "--clearenv", *identity),
        *("--ro-bind", str(root), "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/run"),  # noqa: S108
        *read_only,
        *writable,
        *(word for key, value in settings.items() for word in ("--setenv", key, value)),
        *("--chdir", "/", "--", *argv),
    )


def enter(
    root: Path,
    argv: Sequence[str],
    *,
    read: Mapping[Path, str] | None = None,
    write: Mapping[Path, str] | None = None,
    owner: int | None = None,
    timeout: float = 10 * _MINUTES,
) -> Completed:
    """Run a program in an unpacked root; ``read`` and ``write`` map directories of this host to paths in it.

    ``owner``: see ``enter_argv``.

    Raises ``CommandError``, ``HostError`` if this machine has no ``bwrap`` or does not allow it to make namespaces.
    """
    _need("bwrap")
    command = enter_argv(root, argv, read=read or {}, write=write or {}, owner=owner)
    done = shell.run(command, timeout=timeout, check=False)
    if done.code and done.err.startswith(b"bwrap: ") and b"execvp" not in done.err:
        hint = "user namespaces are off: run sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
        raise HostError(f"bubblewrap cannot enter {root}: {shell.tail(done, 3)}", hint)
    if done.code:
        raise CommandError(f"exit status {done.code} of {' '.join(argv)} in {root}:\n{shell.tail(done)}")
    return done


def packages_of(archive: Path) -> dict[str, str]:
    """Return name and version of what is installed in a packed root."""
    with tarfile.open(archive, "r:") as tar:
        file = tar.extractfile(f"./{_STATUS}")
        return _parse_status(file.read().decode()) if file else {}


def _parse_status(text: str) -> dict[str, str]:
    blocks = (dict(line.split(": ", 1) for line in block.splitlines() if ": " in line) for block in text.split("\n\n"))
    return {block["Package"]: block["Version"] for block in blocks if "Package" in block}


def _need(program: str) -> None:
    if shell.which(program) is None:
        package = _PACKAGES[program]
        raise HostError(
            f"no program {program!r} on this machine (package {package})", f"sudo apt-get install {package}"
        )


def _scratch(beside: Path) -> str:
    """Return where mmdebstrap may unpack: beside the result, where ``images gc`` removes it if this process is killed.

    Without root it works as another user id, which cannot enter a home directory; then in a public directory.
    """
    if os.geteuid() == 0:
        return str(beside)
    chosen = os.environ.get("TMPDIR", "")
    return chosen if os.path.isdir(chosen) else "/var/tmp"  # noqa: S108, PTH112 - mmdebstrap makes a private directory in it
