"""How Linux changes a file's owner, mode and extended attributes, for root in the initial user namespace."""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping

from testbed.attest.image.filesystem import Inode, Refused

_KEPT_ID = (1 << 32) - 1  # chown(2): -1 changes nothing
_NAME_MAX = 255
_CAPABILITY = b"security.capability"
_ACCESS, _DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
# include/uapi/linux/posix_acl.h
_OWNER, _GROUP, _MASK, _OTHER = 0x01, 0x04, 0x10, 0x20
_BASE = (_OWNER, _GROUP, _OTHER)
_ACL_VERSION = struct.pack("<I", 2)


def change_owner(inode: Inode, uid: int, gid: int) -> None:
    """Set the owner, of which 32 bits count. A change takes set-id bits and capabilities away, as Linux does."""
    uid, gid = uid & _KEPT_ID, gid & _KEPT_ID
    if (inode.uid, inode.gid) == (uid, gid):
        return
    inode.uid = inode.uid if uid == _KEPT_ID else uid
    inode.gid = inode.gid if gid == _KEPT_ID else gid
    if not inode.is_directory:
        inode.xattrs.pop(_CAPABILITY, None)
        inode.mode &= ~(stat.S_ISUID | (stat.S_ISGID if inode.mode & stat.S_IXGRP else 0))


def change_mode(inode: Inode, mode: int) -> None:
    """Set the permission bits. An access control list follows them."""
    inode.mode = stat.S_IFMT(inode.mode) | mode & 0o7777
    if _ACCESS in inode.xattrs:
        entries = list(struct.iter_unpack("<HHI", inode.xattrs[_ACCESS][4:]))
        group = _MASK if any(tag == _MASK for tag, _, _ in entries) else _GROUP
        bits = {_OWNER: mode >> 6 & 7, group: mode >> 3 & 7, _OTHER: mode & 7}
        packed = (struct.pack("<HHI", tag, bits.get(tag, allowed), who) for tag, allowed, who in entries)
        inode.xattrs[_ACCESS] = _ACL_VERSION + b"".join(packed)


def set_xattrs(inode: Inode, xattrs: Mapping[bytes, bytes]) -> None:
    """Set extended attributes. Those of unknown namespaces are left out, as containers/storage leaves them out."""
    for name, value in xattrs.items():
        namespace, _, rest = name.partition(b".")
        if name in (_ACCESS, _DEFAULT):
            _set_acl(inode, name, value)
        elif not name or len(name) > _NAME_MAX or (not rest and namespace in (b"user", b"trusted", b"security")):
            raise Refused(f"an extended attribute cannot have the name {name[:40]!r}")
        elif namespace == b"user" and not (inode.is_directory or stat.S_ISREG(inode.mode)):
            raise Refused(f"only files and directories can have the extended attribute {name[:40]!r}")
        elif namespace in (b"user", b"trusted", b"security") and name != b"security.selinux":
            inode.xattrs[name] = _as_read(name, value)


def _as_read(name: bytes, value: bytes) -> bytes:
    """Return a value as Linux gives it back: capabilities of version 3 for the initial root have version 2."""
    if name == _CAPABILITY and len(value) == 24 and value[3] == 3 and value[20:] == bytes(4):
        return value[:3] + b"\x02" + value[4:20]
    return value


def _set_acl(inode: Inode, name: bytes, value: bytes) -> None:
    """Set an access control list. The permission bits follow it; one that says no more than they do is not kept."""
    if inode.is_link:
        return
    if value[:4] != _ACL_VERSION or len(value) % 8 != 4 or (name == _DEFAULT and not inode.is_directory):
        raise Refused("an access control list that Linux does not accept")
    entries = [
        (tag, allowed & 7, _KEPT_ID if tag in (*_BASE, _MASK) else who)
        for tag, allowed, who in struct.iter_unpack("<HHI", value[4:])
    ]
    bits = {tag: allowed for tag, allowed, _ in entries}
    if not entries:
        inode.xattrs.pop(name, None)
        return
    if not all(tag in bits for tag in _BASE):
        raise Refused("an access control list that Linux does not accept")
    if name == _ACCESS:
        group = bits.get(_MASK, bits[_GROUP])
        inode.mode = inode.mode & ~0o777 | bits[_OWNER] << 6 | group << 3 | bits[_OTHER]
        if len(entries) == len(_BASE):
            inode.xattrs.pop(name, None)
            return
    inode.xattrs[name] = _ACL_VERSION + b"".join(struct.pack("<HHI", *entry) for entry in entries)
