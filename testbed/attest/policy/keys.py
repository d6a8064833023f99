"""The keys of a policy's file: schema 1, of which docs/policy.schema.json is made."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from testbed.attest.hashes import DIGESTS

# The digests that a file can have, by their prefix, and their bytes; fs-verity has two algorithms.
_PLAIN_KINDS = {
    name: DIGESTS[name] for name in ("sha1", "sha256", "sha384", "sha512", "sm3", "sha3-256", "sha3-384", "sha3-512")
}
KINDS = _PLAIN_KINDS | {f"verity:{name}": DIGESTS[name] for name in ("sha256", "sha512")}
_PLAIN = "|".join(f"{name}:[0-9a-f]{{{2 * size}}}" for name, size in _PLAIN_KINDS.items())
_ANY_KIND = "|".join(f"{kind}:[0-9a-f]{{{2 * size}}}" for kind, size in KINDS.items())
PlainDigest = Annotated[str, Field(pattern=f"^({_PLAIN})$")]
FileDigest = Annotated[str, Field(pattern=f"^({_ANY_KIND})$")]
PartDigest = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
ImageFileDigest = Annotated[str, Field(pattern="^(verity:)?sha256:[0-9a-f]{64}$")]
HostName = Annotated[str, Field(pattern="^(/|[^/]+$)")]
ImagePath = Annotated[str, Field(pattern="^/")]
ImageName = Annotated[str, Field(pattern="^[!-~]{1,255}$")]
ContainerKey = Annotated[str, Field(pattern=r"^(\*|[0-9a-f]{64})(/\*)?$")]
CgroupPath = Annotated[str, Field(pattern=r"^(/|(/[^/]+)+)$")]
Program = Annotated[str, Field(pattern="^(sha256:[0-9a-f]{64}|bpf:(0|[1-9][0-9]{0,3}))$")]
MountTarget = Annotated[str, Field(pattern=r"^(/|(/[^/]+)+)$")]
MountOption = Annotated[str, Field(pattern="^[!-+\\--~]+$")]
Hex256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
# 64 zeros is the value in a launch without a claim.
ClaimedDigest = Annotated[str, Field(pattern="^0{0,63}[1-9a-f][0-9a-f]{0,63}$", min_length=64, max_length=64)]
ResettablePcr = Annotated[str, Field(pattern="^(1[6-9]|2[0-3])$")]
Word = Literal["reject", "note"]
Text = Annotated[str, Field(min_length=1)]


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Signer(_Values):
    """A key whose signatures accept files: a certificate or a public key, PEM or base64 of DER.

    `paths`: patterns of whole paths, one of which must match; any path if left out.
    """

    key: Text
    paths: Annotated[list[str], Field(min_length=1)] | None = None


# The tables of files are not validated here, but in a plain loop where they are converted for look-ups (reference.py):
# for a million files pydantic would take 1.2 s more, of 3 s in all.
class Host(_Values):
    """What may run outside containers: by path as IMA logs it, the digests of the content (any of them will do).

    `boot_aggregate`: digests of that entry, or of `boot_aggregate_late`. `buffers`: digests of what the kernel measures
    under an event name.
    `exclude`: patterns of whole paths; a file that is in no list is not complained about if one matches. `signed-by`:
    keys that sign files; a file that is in no list is accepted if one of them signed it.
    """

    files: SkipValidation[dict[HostName, Annotated[list[FileDigest], Field(min_length=1)]]] = {}
    boot_aggregate: list[PlainDigest] = []
    buffers: dict[Annotated[str, Field(min_length=1)], Annotated[list[PlainDigest], Field(min_length=1)]] = {}
    exclude: list[str] = []
    signed_by: list[Signer] = Field(default=[], alias="signed-by")


class MountRule(_Values):
    """Mounts that are allowed: at `target` (`/data`), or anywhere below it (`/data/*`).

    `types`, `sources`, `roots`: what they may be, each any if left out. `options`: what each of them must have.
    """

    target: MountTarget
    types: Annotated[list[Text], Field(min_length=1)] | None = None
    sources: Annotated[list[str], Field(min_length=1)] | None = None
    roots: Annotated[list[Text], Field(min_length=1)] | None = None
    options: list[MountOption] = []


class Roots(_Values):
    """Digests that the kernel has of an image's root (docs/roots.md): several, as one image can be stored in many ways.

    `composefs`: fs-verity digests of its EROFS image. `dm-verity`: root hashes of its device.
    """

    composefs: Annotated[list[Hex256], Field(min_length=1)] | None = None
    dm_verity: Annotated[list[Hex256], Field(min_length=1)] | None = Field(default=None, alias="dm-verity")


class Image(_Values):
    """What may run in a container of this image. `digest`: that of its tree (docs/formats.md, section 3).

    `roots`: digests that the kernel has of its root; a launch must have one of them, or `digest`.
    `config`: digests of `config.json` of which each container's launch must claim one; without it, it may claim any.
    `arguments`: whole command lines of which its first program must have one. `mounts`: the mounts that it may have;
    `usual` allows those that runtimes make for any container. `programs`: what it may load into the kernel: SHA-256 of
    BPF programs and modules, `bpf:NUMBER` for another command of bpf(). `files`: by path, the digests of the content:
    `sha256:HEX`, and `verity:sha256:HEX` of fs-verity. An entry is judged by those of its kind. `drift`: likewise, code
    that it may get beside the image, if the digest stands for the image's own files (flag DRIFT of its launch); `files`
    does not count then.
    """

    digest: Hex256 | None = None
    roots: Roots | None = None
    config: Annotated[list[ClaimedDigest], Field(min_length=1)] | None = None
    arguments: Annotated[list[list[str]], Field(min_length=1)] | None = None
    mounts: list[Literal["usual"] | MountRule] | None = None
    programs: list[Program] | None = None
    drift: dict[ImagePath, Annotated[list[ImageFileDigest], Field(min_length=1)]] | None = None
    files: SkipValidation[dict[ImagePath, Annotated[list[ImageFileDigest], Field(min_length=1)]]] = {}


class MeasurerParts(_Values):
    """The measurer's own parts that are good: the log must have an entry of each part, and none of another digest."""

    module: Annotated[list[PartDigest], Field(min_length=1)]
    object: Annotated[list[PartDigest], Field(min_length=1)]
    loader: Annotated[list[PartDigest], Field(min_length=1)]


class On(_Values):
    """What to do where nothing is known: `reject`, or `note` and go on.

    `restart`: with a container that is started again under the id of one that has ended, in the same cgroup.
    """

    violation: Word = "reject"
    unknown: Word = "reject"
    not_bound: Word = Field(default="reject", alias="not-bound")
    restart: Word = "reject"


class Document(_Values):
    """A reference policy: which files may run on the host and in containers (docs/policy.md).

    `containers`: names of images by the runtime's id of a container, `*` for all others; with `/*` behind it, of the
    containers that run in it. `cgroups`: further paths at which only the host makes cgroups, so that the ids of
    containers at or below them are believed. `measurer`: the measurer that is good. `require_measurer`: a log without a
    beat of a measurer is not trusted. `resettable`: PCRs that are relied on although somebody can reset them, each with
    the reason.
    """

    version: Literal[1] = Field(alias="schema")
    host: Host = Host()
    images: dict[ImageName, Image] = {}
    containers: dict[ContainerKey, Annotated[list[ImageName], Field(min_length=1)]] = {}
    cgroups: list[CgroupPath] = []
    measurer: MeasurerParts | None = None
    require_measurer: bool = False
    resettable: dict[ResettablePcr, Text] = {}
    on: On = On()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    made = dialect | Document.model_json_schema(by_alias=True) | {"title": "Reference policy, schema 1"}
    _close(made)
    # The schema is published, and its parts keep their names.
    published: dict[str, Any] = json.loads(json.dumps(made).replace(MeasurerParts.__name__, "Measurer"))
    return published


def _close(node: Any) -> None:
    """Reject keys that do not have the form that their table demands, as the model does."""
    if isinstance(node, dict) and "patternProperties" in node:
        node["additionalProperties"] = False
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _close(inner)
