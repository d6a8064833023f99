"""`make kasan`: the detectors see what they are there for; then the measurer is soaked, and they say nothing."""

from __future__ import annotations

import secrets

import pytest
import soak
from conftest import Bench

from testbed.lab.build import compiled

# What is done wrong, and words of the report that it must cause.
FAULTS = {
    # First, as lockdep goes off with the first report of its own or of KASAN.
    "lock-order": "possible circular locking dependency",
    "use-after-free": "KASAN: slab-use-after-free in use_after_free",
    "out-of-bounds": "KASAN: slab-out-of-bounds in out_of_bounds",
    "vmalloc-out-of-bounds": "KASAN: vmalloc-out-of-bounds in vmalloc_out_of_bounds",
    "leak": "unreferenced object",
    "sleep-in-atomic": "BUG: sleeping function called from invalid context",
    "list-twice": "list_add double add",
    "work-on-stack": "lib/debugobjects.c",
}


def test_the_configuration_is_what_was_asked_for(bench: Bench) -> None:
    asked = compiled.options((compiled.ROWS / "kasan.config").read_text())
    compiled.check("kasan", asked, bench.spec.kernel.config.read_text())


def test_each_detector_sees_its_fault(bench: Bench) -> None:
    notebook = bench.notebook("faults")
    todo = [fault for fault in FAULTS if fault not in notebook.steps()]
    if not todo:
        return
    with bench.boot(notebook.path / f"boot-{secrets.token_hex(4)}") as guest:
        soak.look(guest)
        for fault in FAULTS:
            notebook.add(soak.provoke(guest, fault, FAULTS[fault]))
        assert not soak.look(guest)["lockdep"]


def test_soak(bench: Bench) -> None:
    mode, execs = soak.wished()
    notebook = bench.notebook(mode)
    todo = [name for name in soak.names(execs) if name not in notebook.steps()]
    if todo and all(step.clean for step in notebook.steps().values()):
        with bench.boot(notebook.path / f"boot-{secrets.token_hex(4)}") as guest:
            soak.run(guest, mode, todo, notebook, print)
    done = notebook.steps()
    wrong = [f"{name}: {line}" for name, step in done.items() for line in (*step.complaints, *step.reports)]
    if wrong:
        pytest.fail("\n".join([f"to forget what was seen and go on, remove it from {notebook.path}", *wrong]))
    assert set(soak.names(execs)) <= set(done)
