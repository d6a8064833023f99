"""Whose word an id in a cgroup's path is: each engine's places, and what a container can make of them."""

from __future__ import annotations

import pytest

from testbed.attest.entries.identity import believed, find_place

ID, OTHER = "ab" * 32, "cd" * 32
USER = "/user.slice/user-1000.slice/user@1000.service"
KUBE = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b_2c.slice"


@pytest.mark.parametrize(
    "path",
    [
        f"/machine.slice/libpod-{ID}.scope/container",
        f"/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{ID}.scope",
        f"/libpod_parent/libpod-{ID}",
        f"/libpod_parent/{OTHER}/libpod-{ID}",
        f"{USER}/user.slice/libpod-{ID}.scope/container",
        f"{USER}/user.slice/user-libpod_pod_{OTHER}.slice/libpod-{ID}.scope",
        f"{USER}/session.scope/libpod_parent/libpod-{ID}",
        f"/system.slice/web.service/libpod-payload-{ID}",
        f"{USER}/app.slice/web.service/libpod-payload-{ID}",
        f"/system.slice/docker-{ID}.scope",
        f"/docker/{ID}",
        f"{USER}/user.slice/docker-{ID}.scope",
        f"/system.slice/nerdctl-{ID}.scope",
        f"{KUBE}/crio-{ID}.scope/container",
        f"{KUBE}/cri-containerd-{ID}.scope",
        f"/kubepods/besteffort/pod12ab-34/{ID}",
        f"/kubepods/pod12ab-34/{ID}",
        f"/system.slice/crun-{ID}.scope",
    ],
)
def test_where_engines_put_a_container(path: str) -> None:
    place = find_place(path)
    assert place is not None
    assert (place.id, place.inside) == (ID, False)
    assert believed(place)
    assert believed(place, before=True)


@pytest.mark.parametrize(
    "path",
    [
        f"/machine.slice/libpod-{ID}.scope/libpod-{OTHER}.scope",
        f"/machine.slice/libpod-{ID}.scope/container/{OTHER}",
        f"/machine.slice/libpod-{ID}.scope/machine.slice/libpod-{OTHER}.scope/container",
        f"/testbed/{ID}/{OTHER}",
        f"/testbed/{ID}/docker-{OTHER}.scope",
        f"/testbed/{ID}/x/libpod-{OTHER}",
        f"/libpod_parent/{'ef' * 32}/libpod-{ID}/libpod-{OTHER}",
    ],
)
def test_an_id_behind_an_id_is_a_containers_own_word(path: str) -> None:
    place = find_place(path)
    assert place is not None
    assert (place.id, place.inside) == (ID, True)


@pytest.mark.parametrize(
    "path",
    [
        f"/machine.slice/libpod-conmon-{ID}.scope",
        f"/machine.slice/libpod-{ID}0.scope",
        f"/machine.slice/xlibpod-{ID}.scope",
        f"/machine.slice/libpod-{ID.upper()}.scope",
        f"/machine.slice/machine-libpod_pod_{ID}.slice",
        "/system.slice/ssh.service",
        "/",
        "",
    ],
)
def test_no_id(path: str) -> None:
    assert find_place(path) is None


@pytest.mark.parametrize(
    ("path", "prefixes", "ordinary", "before"),
    [
        (f"/evil.slice/libpod-{ID}.scope", (), False, False),
        (f"/evil/machine.slice/libpod-{ID}.scope", (), False, False),
        (f"/machine.slice/x/libpod-{ID}.scope", (), False, False),
        (f"/machine.slice/docker-{ID}.scope", (), False, False),
        (f"/testbed/containers/{ID}", (), True, False),
        (f"/{ID}", (), True, False),
        (f"/testbed/x/crun-{ID}.scope", (), True, False),
        (f"/testbed/x/libpod-{ID}", ("/testbed/x",), True, True),
        (f"/testbed/x/y/libpod-{ID}", ("/testbed/x",), True, False),
        (f"/testbed/x/{OTHER}/libpod-{ID}", ("/testbed/x",), True, False),
        (f"/testbed/xy/libpod-{ID}", ("/testbed/x",), False, False),
        (f"/libpod-{ID}", (), False, False),
        (f"/libpod-{ID}", ("/",), True, True),
        (f"/a/b/libpod-{ID}", ("/",), True, False),
    ],
)
def test_what_is_believed(path: str, prefixes: tuple[str, ...], ordinary: bool, before: bool) -> None:
    place = find_place(path)
    assert place is not None
    assert believed(place, prefixes) is ordinary
    assert believed(place, prefixes, before=True) is before
