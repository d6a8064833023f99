# ruff: noqa: INP001 - programs, not a package
"""Logs to measure a verifier with: as IMA writes them, of any length, the same at each run."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

PCRS = (10, 11)
_SEED = 11
_LANGUAGES = "ca cs da de el es fi fr hu it ja ko nl pl pt_BR ru zh_CN".split()  # noqa: SIM905
_WORDS = """
apt acl attr audit base bind boost cairo certs core crypt curl dbus dconf elf expat ffi fontconfig fuse gcc
gio glib gnutls gpg gtk icu idn json kmod krb5 ldap locale lvm lz4 magic mount ncurses net nss openssl pam
pango parted pcre perl pkcs11 polkit procps pulse python readline sasl seccomp selinux smart sqlite ssh ssl
storage systemd tiff tools udev unistring user util uuid video wayland xattr xcb xml yaml zstd
""".split()  # noqa: SIM905 - to be read by people

# Where files of a Debian root are, and in what proportion an installed server measures them: libraries and modules
# first, then interpreted code, programs, data that root reads.
_SHAPES = (
    (24, "/usr/lib/x86_64-linux-gnu/lib{a}-{b}{n}.so.{i}.{j}.{k}"),
    (12, "/usr/lib/x86_64-linux-gnu/{a}/{b}/lib{c}{n}.so"),
    (16, "/usr/lib/modules/6.12.48+deb13-amd64/kernel/drivers/{a}/{b}/{c}{n}.ko.xz"),
    (14, "/usr/lib/python3/dist-packages/{a}_{b}/{c}/{b}{n}.py"),
    (8, "/usr/share/perl/5.40.1/{a}/{b}/{c}{n}.pm"),
    (10, "/usr/bin/{a}-{b}{n}"),
    (6, "/usr/libexec/{a}/{b}-{c}{n}"),
    (6, "/usr/share/locale/{l}/LC_MESSAGES/{a}-{b}{n}.mo"),
    (4, "/etc/{a}/{b}.d/{n}-{c}.conf"),
)


def paths(count: int) -> Iterator[str]:
    """Yield so many different paths, mean length about 50 bytes; a longer log begins with the shorter one's."""
    random = Random(_SEED)  # noqa: S311 - to be the same each time
    weights = [weight for weight, _ in _SHAPES]
    for number in range(count):
        (_, shape), *_ = random.choices(_SHAPES, weights)
        a, b, c = random.choices(_WORDS, k=3)
        i, j, k = random.choices(range(10), k=3)
        yield shape.format(a=a, b=b, c=c, i=i, j=j, k=k, n=number, l=random.choice(_LANGUAGES))


def entries(count: int, pcrs: tuple[int, ...] = PCRS) -> Iterator[tuple[int, str, bytes, bytes]]:
    """Yield PCR, path, SHA-256 of the file and template data of each entry; no file is there twice.

    Of three entries two are of the first PCR, one of the last: a host whose containers (a rule with `pcr=11`) run
    fewer programs than it does.
    """
    for number, path in enumerate(("boot_aggregate", *paths(count - 1))):
        digest = hashlib.sha256(b"file %d" % number).digest()
        name = path.encode() + b"\0"
        data = struct.pack("<I8s32sI", 40, b"sha256:\0", digest, len(name)) + name
        yield pcrs[-1] if number % 3 == 2 else pcrs[0], path, digest, data


def write(path: Path, count: int, pcrs: tuple[int, ...] = PCRS) -> dict[int, bytes]:
    """Write a binary log of so many `ima-ng` entries; return what the PCRs of the sha256 bank hold then."""
    values = dict.fromkeys(pcrs, bytes(32))
    with path.open("wb") as file:
        for pcr, _, _, data in entries(count, pcrs):
            digest = hashlib.sha1(data).digest()  # noqa: S324 - the log's format
            file.write(struct.pack("<I20sI6sI", pcr, digest, 6, b"ima-ng", len(data)) + data)
            values[pcr] = hashlib.sha256(values[pcr] + hashlib.sha256(data).digest()).digest()
    return values
