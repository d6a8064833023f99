"""Policies made of images, root file systems and logs; and the commands that make them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import evidence as b
import image_files
import pytest
from click.testing import CliRunner, Result
from image_files import member

from testbed.attest.finding import FindingKind
from testbed.attest.image.archive import open_image
from testbed.attest.image.tree import tree_digest, verity_digest
from testbed.attest.log.fields import Fields
from testbed.attest.log.ima import read_entries
from testbed.attest.policy import log as policy_log
from testbed.attest.policy import make as policy_make
from testbed.attest.policy.reference import load_policy
from testbed.attest.verify import verify
from testbed.commands import policy as policy_command
from testbed.errors import SpecError

REAL = b.GOLDEN / "bundle-debian-6.12"
SYNTHETIC = b.GOLDEN / "bundle-synthetic"
NONCE = "d1ce5eed00112233445566778899aabb"


def sha(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def both(content: bytes) -> list[str]:
    return [sha(content), f"verity:sha256:{verity_digest(io.BytesIO(content)).hex()}"]


def tar(files: dict[str, bytes | str]) -> bytes:
    """A layer: bytes are a file's content, text is a link's target; `=` before it makes that a hard link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as layer:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type = tarfile.LNKTYPE if content.startswith("=") else tarfile.SYMTYPE
                member.linkname = content.removeprefix("=")
                layer.addfile(member)
            else:
                member.size = len(content)
                layer.addfile(member, io.BytesIO(content))
    return out.getvalue()


def archive(path: Path, files: dict[str, bytes | str], annotations: Any = None) -> Path:
    """An OCI archive of one layer."""
    blobs: dict[str, bytes] = {}

    def put(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    manifest = put(json.dumps({"layers": [put(tar(files))]}).encode())
    if annotations is not None:
        manifest["annotations"] = annotations
    blobs["index.json"] = json.dumps({"manifests": [manifest]}).encode()
    path.write_bytes(tar(dict(blobs)))
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(policy_command.command, [str(word) for word in words])


def made(*words: object) -> dict[str, Any]:
    done = run(*words)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


FILES: dict[str, bytes | str] = {"bin/x": b"x", "bin/hard": "=bin/x", "bin/soft": "x", "bin/n%\udcff": b"n"}
LISTED = {"/bin/x": both(b"x"), "/bin/hard": both(b"x"), "/bin/n%25%FF": both(b"n")}


def test_an_image_is_listed_whole(tmp_path: Path) -> None:
    one = archive(tmp_path / "some.oci.tar", FILES, {"org.opencontainers.image.ref.name": "registry/some:1"})
    with open_image(one) as image:
        digest = tree_digest(image.nodes).hex()
    document = made("from-image", one)
    assert document["images"] == {"registry/some:1": {"digest": digest, "files": LISTED}}
    assert document["containers"] == {"*": ["registry/some:1"]}
    assert document["host"]["files"] == {}
    assert document["on"] == {"unknown": "reject", "violation": "reject"}
    assert "any one of" not in run("from-image", one).stderr


@pytest.mark.parametrize("annotations", [None, {}, {"org.opencontainers.image.ref.name": ""}, {"x": 1}])
def test_an_image_without_a_name_has_the_files(tmp_path: Path, annotations: Any) -> None:
    for name in ("my image.oci.tar", "my image.tar", "my image"):
        assert list(made("from-image", archive(tmp_path / name, FILES, annotations))["images"]) == ["my_image"]


def test_several_images_may_be_any_and_that_is_said(tmp_path: Path) -> None:
    one, two = archive(tmp_path / "one.oci.tar", FILES), archive(tmp_path / "two.oci.tar", {"bin/y": b"y"})
    done = run("from-image", two, one)
    assert json.loads(done.stdout)["containers"] == {"*": ["one", "two"]}
    assert "any of these images: one, two" in done.stderr


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    one = archive(tmp_path / "one.oci.tar", FILES)
    (tmp_path / "d").mkdir()
    other = archive(tmp_path / "d" / "one.oci.tar", {"bin/y": b"y"})
    with pytest.raises(SpecError, match="another image's name, got 'one'"):
        policy_make.from_images([one, other])
    base = tmp_path / "p.json"
    assert run("from-image", one, "-o", base).exit_code == 0
    done = run("from-image", other, "--onto", base)
    assert isinstance(done.exception, SpecError)
    assert "image 'one' is in the policy already" in str(done.exception)
    assert made("from-image", one, "--onto", base) == json.loads(base.read_text())


def latest(path: Path, layers: list[bytes]) -> Path:
    return image_files.write_tar(path, image_files.oci(layers, annotations={image_files.REF_NAME: "latest"}))


def test_images_that_are_both_called_latest_can_be_named(tmp_path: Path) -> None:
    one, two = latest(tmp_path / "one.tar", [tar({"x": b"x"})]), latest(tmp_path / "a=b.tar", [tar({"y": b"y"})])
    done = run("from-image", one, two)
    assert isinstance(done.exception, SpecError)
    assert f"NAME={two}" in done.exception.hint
    images = made("from-image", f"web={one}", f"db={two}")["images"]
    assert {name: list(image["files"]) for name, image in images.items()} == {"web": ["/x"], "db": ["/y"]}
    assert list(made("from-image", two)["images"]) == ["latest"], "a path that exists is one, even with ="
    for wrong in (f"w b={one}", f"{'n' * 256}={one}"):
        assert "expected a name of at most 255" in str(run("from-image", wrong).exception)
    assert isinstance(run("from-image", f"web={tmp_path / 'absent'}").exception, SpecError)


def test_images_of_other_formats(tmp_path: Path) -> None:
    layers = [tar({"x": b"x"})]
    docker = image_files.write_tar(tmp_path / "d.tar", image_files.docker(layers, tag="registry/x:1"))
    layout = image_files.write_dir(tmp_path / "layout", image_files.oci(layers))
    images = made("from-image", docker, layout)["images"]
    assert list(images) == ["layout", "registry/x:1"]
    assert images["layout"] == images["registry/x:1"]


def test_a_note_says_which_of_several_trees_a_policy_has(tmp_path: Path) -> None:
    layers = [[member("d", "dir", mode=0o700), member("d/a")], [member("d/b")]]
    path = image_files.write_tar(tmp_path / "a.tar", image_files.oci([image_files.tar(one) for one in layers]))
    done = run("from-image", path)
    with open_image(path, driver="vfs") as image:
        vfs = tree_digest(image.nodes).hex()
    assert f"vfs makes another tree, {vfs}; the policy has that of overlay" in done.stderr
    assert made("from-image", "--driver", "vfs", path)["images"]["a"]["digest"] == vfs
    layout = image_files.Layout()
    several = [
        layout.image([image_files.tar([member(arch)])], platform={"os": "linux", "architecture": arch})
        for arch in ("amd64", "arm64")
    ]
    image_files.write_tar(path, layout.end(several))
    done = run("from-image", path, "--platform", "linux/arm64")
    assert list(json.loads(done.stdout)["images"]["a"]["files"]) == ["/arm64"]
    assert "this is the image for linux/arm64" in done.stderr


def test_what_is_no_image_is_a_wrong_argument(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 10240)
    for path in (tmp_path / "x", tmp_path):
        with pytest.raises(SpecError, match="the image cannot be read"):
            policy_make.from_images([path])


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    top = tmp_path / "root"
    (top / "usr" / "bin").mkdir(parents=True)
    (top / "usr" / "bin" / "x y").write_bytes(b"x")
    (top / "empty").write_bytes(b"")
    (top / "bin").symlink_to("usr/bin")
    (top / "link").symlink_to("/etc/passwd")
    os.mkfifo(top / "pipe")
    (top / os.fsdecode(b"\xff%")).write_bytes(b"odd")
    return top


def test_a_root_file_system_is_listed_without_following_links(rootfs: Path) -> None:
    done = run("from-rootfs", rootfs)
    document = json.loads(done.stdout)
    assert document["host"]["files"] == {"/usr/bin/x y": [sha(b"x")], "/empty": [sha(b"")], "/%FF%25": [sha(b"odd")]}
    assert (document["images"], document["containers"]) == ({}, {})
    assert "no boot_aggregate" in done.stderr
    base = rootfs.parent / "base.json"
    base.write_text(json.dumps({"schema": 1, "host": {"boot_aggregate": [sha(b"b")]}}))
    assert run("from-rootfs", rootfs, "--onto", base).stderr == ""


def test_a_path_given_with_a_slash_is_the_same(rootfs: Path) -> None:
    assert made("from-rootfs", f"{rootfs}/") == made("from-rootfs", rootfs)


def test_other_file_systems_are_not_entered(rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = rootfs.stat().st_dev
    monkeypatch.setattr(Path, "stat", lambda _self: os.stat_result((0, 0, here + 1, *[0] * 7)))
    found = policy_make.from_rootfs(rootfs)
    assert "not entered: /usr is another file system" in found.notes
    assert "/usr/bin/x y" not in found.document["host"]["files"]


def test_what_cannot_be_read_is_an_error(rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        (rootfs / f"f{number}").write_bytes(b"")

    def fail(path: bytes) -> str | None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(policy_make, "_hash", fail)
    with pytest.raises(SpecError, match="10 files or directories cannot be read:\n  /empty: Permission denied\n") as e:
        policy_make.from_rootfs(rootfs)
    assert "and 5 more" in e.value.message


def test_a_directory_that_goes_away_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="1 files or directories cannot be read:\n  /: No such file"):
        policy_make.from_rootfs(tmp_path / "none")
    (tmp_path / "sub").mkdir()
    real = os.scandir

    def scandir(path: bytes) -> Any:
        if path.endswith(b"sub/"):
            raise FileNotFoundError(2, "No such file or directory")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SpecError, match="/sub: No such file"):
        policy_make.from_rootfs(tmp_path)


def test_a_file_that_is_swapped_for_a_pipe_or_a_link_is_not_read(rootfs: Path) -> None:
    def swap(paths: list[bytes]) -> list[bytes]:
        (rootfs / "empty").unlink()
        os.mkfifo(rootfs / "empty")
        return paths

    assert "/empty" not in policy_make.from_rootfs(rootfs, swap).document["host"]["files"]

    def relink(paths: list[bytes]) -> list[bytes]:
        (rootfs / "usr/bin/x y").unlink()
        (rootfs / "usr/bin/x y").symlink_to("/etc/passwd")
        return paths

    with pytest.raises(SpecError, match="/usr/bin/x y: a symbolic link"):
        policy_make.from_rootfs(rootfs, relink)


def bundle_options() -> list[str]:
    return ["--ak", str(REAL / "ak.pub"), "--nonce", json.loads((REAL / "bundle.json").read_text())["nonce"]]


def test_a_log_of_a_real_boot_gives_the_golden_policy_which_trusts_it(tmp_path: Path) -> None:
    golden = b.GOLDEN / "policy" / "from-log-debian-6.12.json"
    out = tmp_path / "p.json"
    done = run("from-log", REAL, *bundle_options(), "-o", out)
    assert (done.exit_code, done.output) == (0, "")
    assert out.read_text() == golden.read_text()
    assert run("from-log", REAL, *bundle_options()).stdout == golden.read_text()
    nonce = bytes.fromhex(bundle_options()[-1])
    verdict = verify(REAL, ak=(REAL / "ak.pub").read_bytes(), nonce=nonce, policy=load_policy(out))
    assert verdict.ok


def test_the_same_without_a_key_says_that_nothing_was_verified() -> None:
    done = run("from-log", REAL)
    assert "nothing was verified" in done.stderr
    assert json.loads(done.stdout) == json.loads((b.GOLDEN / "policy" / "from-log-debian-6.12.json").read_text())


def test_only_attested_entries_count() -> None:
    verified = made("from-log", SYNTHETIC, "--ak", SYNTHETIC / "ak.pub", "--nonce", NONCE)
    everything = made("from-log", SYNTHETIC)
    later = {"/usr/bin/later-0", "/usr/bin/later-1"}
    assert everything["host"]["files"].keys() - verified["host"]["files"].keys() == later
    assert list(verified["images"]) == [f"{1:064x}", f"{2:064x}"]


def test_no_policy_is_made_of_what_is_not_trusted(tmp_path: Path) -> None:
    done = run("from-log", REAL, *bundle_options()[:-1], "00", "-o", tmp_path / "p.json")
    assert done.exit_code == 1
    assert "untrusted (quote-nonce): no policy was made" in done.stderr
    assert not (tmp_path / "p.json").exists()


def test_key_and_nonce_go_together() -> None:
    for options in (bundle_options()[:2], bundle_options()[2:]):
        done = run("from-log", REAL, *options)
        assert done.exit_code == 2
        assert "go together" in done.stderr


def logged(*entries: bytes) -> policy_make.MadePolicy:
    return policy_log.from_entries(read_entries(b"".join(entries)))


def test_a_log_is_taken_as_it_is() -> None:
    verity = b.entry(10, b"ima-ngv2", b.digest_field(bytes(32), "verity:sha256") + b.field(b"/v\0"))
    found = logged(
        b.ima_ng("boot_aggregate", b"one"),
        b.ima_ng("boot_aggregate_late", b"two"),
        b.ima_ng("/a_b", b"1"),
        b.ima_sig("/a_b", b"2"),
        b.ima_ng("/a_b", b"1"),
        b.ima_old("/old", b"3"),
        verity,
        b.ima_buf(".ima", b"key", pcr=10),
        b.ima_buf("ctr-start", b.ctr_start(b.libpod(), seq=1)),
        b.ima_buf("ctr-start", b.ctr_start(b"/elsewhere", seq=2)),
        b.ima_buf("ctr-file", b.ctr_file(b"/bin/a b", b"4", seq=1)),
        b.ima_buf("ctr-file", b.ctr_file(b"/bin/c\xff", b"5", seq=2)),
        b.ima_buf("ctr-file", b.ctr_file(b"/bin/c\xff", b"6", seq=2)),
        b.ima_buf("ctr-image", b.ctr_image(b"t" * 32)),
        b.ima_buf("ctr-launch", b.ctr_launch(b"t" * 32, seq=1)),
        b.ima_buf("ctr-launch", b.ctr_launch(bytes(32), seq=2, outcome=1)),
        b.ima_buf("ctr-beat", b.ctr_beat(1, 1)),
    )
    assert found.notes == ()
    assert found.document["host"] == {
        "files": {
            "/a_b": sorted([sha(b"1"), sha(b"2")]),
            "/old": [f"sha1:{hashlib.sha1(b'3').hexdigest()}"],
            "/v": ["verity:sha256:" + "0" * 64],
        },
        "boot_aggregate": sorted([sha(b"one"), sha(b"two")]),
        "buffers": {".ima": [sha(b"key")]},
        "exclude": [],
    }
    assert found.document["images"] == {
        b.CONTAINER: {"digest": (b"t" * 32).hex(), "files": {"/bin/a b": [sha(b"4")]}},
        "container-2": {"files": {"/bin/c%FF": sorted([sha(b"5"), sha(b"6")])}},
    }
    assert found.document["containers"] == {b.CONTAINER: [b.CONTAINER], "*": ["container-2"]}


def test_a_log_with_containers_in_containers_and_cgroups_of_the_host() -> None:
    outer = f"/web.slice/libpod-{b.CONTAINER}.scope"
    inner = f"{outer}/libpod-{'cd' * 32}.scope"
    bare = "ab" * 32
    found = logged(
        b.ima_buf("ctr-start", b.ctr_start(outer.encode(), seq=1, version=2)),
        b.ima_buf("ctr-start", b.ctr_start(inner.encode(), seq=2, parent=1, version=2)),
        b.ima_buf("ctr-start", b.ctr_start(b"/x", seq=3, parent=2, version=2)),
        b.ima_buf("ctr-file", b.ctr_file(b"/bin/in", b"1", seq=3, version=2)),
        b.ima_buf("ctr-start", b.ctr_start(inner.encode(), seq=4, version=2)),
        b.ima_buf("ctr-start", b.ctr_start(b"/none", seq=5, parent=99)),
        b.ima_buf("ctr-start", b.ctr_start(f"/crun/{bare}".encode(), seq=6)),
        b.ima_buf("ctr-start", b.ctr_start(b"/a", seq=7, parent=8)),
        b.ima_buf("ctr-start", b.ctr_start(b"/b", seq=8, parent=7)),
        b.ima_buf("ctr-loss", b.ctr_loss(seq=1)),
        b.ima_buf("ctr-mounts", b.ctr_mounts(b.TABLE, seq=1)),
        b.ima_buf("ctr-measurer", b.ctr_measurer()),
    )
    assert found.notes == ()
    assert found.document["cgroups"] == ["/web.slice"]
    assert found.document["containers"] == {
        b.CONTAINER: [b.CONTAINER],
        f"{b.CONTAINER}/*": ["container-2", "container-3", "container-4"],
        "*/*": ["container-5", "container-7", "container-8"],
        bare: [bare],
    }
    assert found.document["images"]["container-3"] == {"files": {"/bin/in": [sha(b"1")]}}


def test_what_a_policy_cannot_have_is_left_out_and_said() -> None:
    found = logged(
        b.violation("/x"),
        b.ima_buf("ctr-violation", b.ctr_violation(b"/x")),
        b.ima_ng("4026532500:/bin/sh", b"1", pcr=11),
        b.ima_ng("4026532500", b"1", pcr=11),
        b.ima_ng("12345", b"1"),
        b.ima_ng("", b"1"),
        b.ima_buf("", b"1"),
        b.entry(10, b"ima-ng", b.digest_field(bytes(16), "md5") + b.field(b"/m\0")),
        b.entry(10, b"unheard-of", b"x"),
        b.ima_buf("ctr-file", b.ctr_file(b"", b"1", flags=1)),
        b.ima_buf("ctr-file", b"not ours"),
    )
    assert found.document["host"]["files"] == {"12345": [sha(b"1")]}
    text = "\n".join(found.notes)
    assert "left out: 2 violations" in text
    assert "left out: 4 names that a policy cannot have" in text
    assert "left out: 1 digests of md5" in text
    assert "left out: 1 files in containers without a path" in text
    assert text.count("entries that cannot be judged") == 2


def test_onto_adds_and_keeps_what_people_wrote(tmp_path: Path, rootfs: Path) -> None:
    base = tmp_path / "base.json"
    key = json.loads((b.GOLDEN / "signatures" / "vectors.json").read_text())["keys"]["p256"]
    host = {"files": {"/empty": [sha(b"other")]}, "boot_aggregate": [sha(b"b")], "exclude": ["/var/.*"]}
    written = {
        "schema": 1,
        "host": host | {"signed-by": [{"key": key, "paths": [path]} for path in ("/usr/.*", "/opt/.*")]},
        "images": {"i": {"files": {"/x": [sha(b"x")]}, "mounts": ["usual", {"target": "/d", "options": ["ro"]}]}},
        "containers": {"*": ["i"]},
        "cgroups": ["/web.slice"],
        "measurer": {part: [sha(b"part")] for part in ("module", "object", "loader")},
        "on": {"unknown": "note", "not-bound": "note"},
    }
    base.write_text(json.dumps(written))
    document = made("from-rootfs", rootfs, "--onto", base)
    assert document["host"]["files"]["/empty"] == sorted([sha(b""), sha(b"other")])
    assert document["host"]["boot_aggregate"] == [sha(b"b")]
    assert document["host"]["exclude"] == ["/var/.*"]
    assert [signer["paths"] for signer in document["host"]["signed-by"]] == [["/usr/.*"], ["/opt/.*"]]
    assert document["images"] == written["images"]
    assert document["on"] == {"unknown": "note", "violation": "reject", "not-bound": "note"}
    assert {key: document[key] for key in ("cgroups", "measurer")} == {
        key: written[key] for key in ("cgroups", "measurer")
    }
    several = run("from-image", archive(tmp_path / "one.oci.tar", FILES), "--onto", base)
    assert json.loads(several.stdout)["containers"] == {"*": ["i", "one"]}
    assert "i, one" in several.stderr


def test_onto_a_bad_policy_makes_none(tmp_path: Path, rootfs: Path) -> None:
    base = tmp_path / "base.json"
    base.write_text('{"schema": 1, "host": {"files": {"/a": ["md5:0"]}}}')
    done = run("from-rootfs", rootfs, "--onto", base, "-o", tmp_path / "p.json")
    assert isinstance(done.exception, SpecError)
    assert "base.json: key 'host.files./a'" in str(done.exception)
    assert not (tmp_path / "p.json").exists()


def test_what_is_made_is_judged_by(tmp_path: Path, rootfs: Path) -> None:
    out = tmp_path / "p.json"
    assert run("from-rootfs", rootfs, "-o", out).exit_code == 0
    assert run("from-image", archive(tmp_path / "i.oci.tar", FILES), "--onto", out, "-o", out).exit_code == 0
    policy = load_policy(out)
    assert policy.judge_host(Fields("sha256", hashlib.sha256(b"x").digest(), b"/usr/bin/x_y")) is None
    assert policy.judge_host(Fields("sha256", hashlib.sha256(b"odd").digest(), b"/\xff%")) is None
    images = policy.images_of("*")
    assert policy.judge_file(images, b"/bin/n%\xff", hashlib.sha256(b"n").digest()) == (("i",), None)
    _, complaint = policy.judge_file(images, b"/usr/bin/x y", hashlib.sha256(b"x").digest())
    assert complaint is not None
    assert complaint.kind is FindingKind.UNKNOWN_FILE


def test_lint_says_what_there_is_or_what_is_wrong(tmp_path: Path) -> None:
    done = run("lint", b.GOLDEN / "policy" / "every-key.json")
    assert done.exit_code == 0
    assert done.stdout.endswith("good; host: 8 digests, 2 excludes, 0 keys; images: 2 with 4 files; containers: 2\n")
    bad = tmp_path / "bad.json"
    bad.write_text('{"schema": 1, "host": {"exclude": ["/.*"]}}')
    done = run("lint", bad)
    assert isinstance(done.exception, SpecError)
    assert done.exception.exit_status == 2


def test_the_schema_is_printed() -> None:
    assert run("schema").stdout == (Path(__file__).parents[2] / "docs" / "policy.schema.json").read_text()


def test_a_place_that_cannot_be_written(rootfs: Path, tmp_path: Path) -> None:
    done = run("from-rootfs", rootfs, "-o", tmp_path / "root" / "empty" / "p.json")
    assert isinstance(done.exception, OSError)  # the command line names it (test_refused.py)
