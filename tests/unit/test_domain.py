from __future__ import annotations

import base64
from pathlib import Path

import pytest
from lxml import etree

from testbed.errors import SpecError
from testbed.lab.block import settings
from testbed.lab.build.image import GuestDisk
from testbed.lab.build.kernel import Kernel
from testbed.lab.machines.domain import (
    HOST_CPU,
    QEMU_NAMESPACE,
    TIERS,
    MachineSpec,
    Wiring,
    check_words,
    command_line,
    domain_xml,
    rewire,
)
from testbed.record import Tier

GOLDEN = Path(__file__).parents[1] / "golden" / "domain"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample testbed"
WIRING = Wiring(
    domain="tb-00000001",
    uuid="11111111-2222-4333-8444-555555555555",
    disk=Path("/run/machine/disk.qcow2"),
    console=Path("/run/machine/console.log"),
    tpm_socket=Path("/tmp/tb-00000002/tb-00000001"),
    port=40022,
)


def machine(tier: Tier, kernel: str = "debian-6.12", **other: object) -> MachineSpec:
    place = Path("/cache") / kernel
    built = Kernel(
        name=kernel,
        release=f"{kernel.removeprefix('debian-')}.0-cloud-amd64",
        vmlinuz=place / "vmlinuz",
        initrd=place / "initrd",
        modules=place / "modules.tar",
        config=place / "config",
        build_root=place / "root",
        digest="00",
        build_digest="01",
    )
    image = GuestDisk(name="trixie", disk=Path("/cache/disk.raw"), digest="02")
    return MachineSpec(name=kernel, kernel=built, image=image, tier=tier, **other)  # type: ignore[arg-type]


def made(spec: MachineSpec) -> etree._Element:
    return etree.fromstring(domain_xml(spec, WIRING, command_line(spec, KEY)))


@pytest.mark.parametrize("kernel", ["debian-6.1", "debian-6.12"])
@pytest.mark.parametrize("tier", list(Tier))
def test_the_whole_domain_is_as_on_record(tier: Tier, kernel: str) -> None:
    spec = machine(tier, kernel)
    assert domain_xml(spec, WIRING, command_line(spec, KEY)) == (GOLDEN / f"{tier}-{kernel}.xml").read_text()


@pytest.mark.parametrize(
    "word", ["root=/dev/sda", "ro", "rw", "console=tty0", "ima_template=ima-buf", "panic=5", "ima-template=x"]
)
def test_a_word_that_the_testbed_sets_is_refused(word: str) -> None:
    with pytest.raises(SpecError, match="the testbed sets this word itself") as caught:
        check_words(["quiet", word], Tier.KVM)
    assert repr(word) in caught.value.message


def test_a_word_of_a_tier_is_refused_there_alone() -> None:
    check_words(["mitigations=auto", "ima_hash=sha512", "roots", "systemd.unit=x"], Tier.KVM)
    with pytest.raises(SpecError, match=r"sets this word itself: mitigations=off"):
        check_words(["mitigations=auto"], Tier.TCG)
    with pytest.raises(SpecError, match=r"systemd\.set_credential_binary"):
        check_words(["systemd.set_credential_binary=ssh.authorized_keys.root:AAAA"], Tier.KVM)


@pytest.mark.parametrize("tier", [Tier.TCG, Tier.ICOUNT])
def test_an_emulated_processor_has_no_cmpxchg16b(tier: Tier) -> None:
    masked = {feature.get("name"): feature.get("policy") for feature in made(machine(tier)).iterfind("cpu/feature")}
    assert masked["cx16"] == "disable"


def test_a_kernel_that_needs_a_feature_gets_it_back_and_no_other() -> None:
    every = made(machine(Tier.TCG)).findall("cpu/feature")
    left = made(machine(Tier.TCG, unmasked=("cx16",))).findall("cpu/feature")
    assert [one.get("name") for one in every if one.get("name") != "cx16"] == [one.get("name") for one in left]
    assert len(left) == len(every) - 1


def test_a_real_processor_keeps_its_features_and_its_workarounds() -> None:
    spec = machine(Tier.KVM)
    assert made(spec).findall("cpu/feature") == []
    assert "mitigations=off" not in command_line(spec, KEY)


@pytest.mark.parametrize("tier", list(Tier))
def test_a_kernel_of_the_distribution_has_no_word_of_its_tier(tier: Tier) -> None:
    tuned, plain = (command_line(machine(tier, tuned=one), KEY).split() for one in (True, False))
    assert [word for word in tuned if word not in plain] == list(TIERS[tier].kernel)
    assert [word for word in plain if word not in tuned] == []


def test_what_tunes_a_kernel_is_not_done_to_one_of_the_distribution() -> None:
    names = {one: [done.name for done in settings(machine(Tier.ICOUNT, tuned=one))] for one in (True, False)}
    assert names[False] == ["programs", "udev events", "file systems"]
    assert set(names[True]) > set(names[False])


def test_a_user_may_set_what_only_a_tuned_kernel_has() -> None:
    check_words(["mitigations=auto,nosmt"], Tier.ICOUNT, tuned=False)
    with pytest.raises(SpecError, match="the testbed sets this word itself"):
        check_words(["mitigations=auto,nosmt"], Tier.ICOUNT)


def test_the_hosts_processor_is_passed_through_by_name() -> None:
    cpu = made(machine(Tier.KVM, cpu=HOST_CPU)).find("cpu")
    assert cpu is not None
    assert list(cpu.attrib.items()) == [("mode", "host-passthrough")]


@pytest.mark.parametrize(("tier", "counted"), [(Tier.KVM, False), (Tier.TCG, False), (Tier.ICOUNT, True)])
def test_only_icount_counts(tier: Tier, counted: bool) -> None:
    words = [word.get("value") for word in made(machine(tier)).iter(f"{{{QEMU_NAMESPACE}}}arg")]
    assert ("shift=0,sleep=on" in words) is counted


def test_a_machine_without_a_tpm_differs_in_nothing_else() -> None:
    whole, less = made(machine(Tier.ICOUNT)), made(machine(Tier.ICOUNT, tpm=False))
    (device,) = whole.findall("devices/tpm")
    parent = device.getparent()
    assert parent is not None
    parent.remove(device)
    assert [one.tag for one in whole.iter()] == [one.tag for one in less.iter()]
    assert rewire(etree.tostring(less, encoding="unicode"), WIRING)


def test_the_guest_gets_the_key_as_a_credential() -> None:
    words = dict(word.partition("=")[::2] for word in command_line(machine(Tier.TCG), KEY).split())
    name, _, value = words["systemd.set_credential_binary"].partition(":")
    assert (name, base64.b64decode(value).decode()) == ("ssh.authorized_keys.root", KEY)


def test_further_words_reach_the_kernel() -> None:
    assert "ima_policy=tcb" in command_line(machine(Tier.TCG, kernel_words=("ima_policy=tcb",)), KEY).split()


def test_a_clone_differs_from_its_original_in_its_ends_alone() -> None:
    original = domain_xml(machine(Tier.ICOUNT), WIRING, "root=/dev/vda")
    elsewhere = Wiring(
        domain="tb-000000ff",
        uuid="99999999-2222-4333-8444-555555555555",
        disk=Path("/clone/disk.qcow2"),
        console=Path("/clone/console.log"),
        tpm_socket=Path("/tmp/tb-000000fe/s"),
        port=50022,
    )
    assert rewire(original, elsewhere) == domain_xml(machine(Tier.ICOUNT), elsewhere, "root=/dev/vda")
