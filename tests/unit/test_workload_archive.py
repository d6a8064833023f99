"""What is read from what gzip and b2sum print, captured from a run of the image."""

from pathlib import Path

import pytest

from testbed.workloads import WorkloadFailed, archive

OUTPUT = (Path(__file__).parents[1] / "golden/workloads/archive.txt").read_text()


def test_a_tree_that_came_back_is_one_archive() -> None:
    assert archive.parse(OUTPUT).operations == 1
    assert OUTPUT.count(": OK\n") == archive.FILES


@pytest.mark.parametrize(
    ("was", "said"),
    [
        (archive.DIGEST[:8], "00000000"),
        ("tree/group3/file43.txt: OK", "tree/group3/file43.txt: FAILED"),
        ("tree/group9/file99.txt: OK\n", ""),
        (" 1085440 ", " 1085439 "),
        (" 339399 ", " 542721 "),
        (" 339399 ", " 1085440 "),
        ("  ratio", "  rat"),
        ("68.7% tree.tar", "68.7% other.tar"),
    ],
)
def test_a_tree_that_did_not_come_back_fails(was: str, said: str) -> None:
    assert was in OUTPUT
    with pytest.raises(WorkloadFailed, match=r"expected .* got"):
        archive.parse(OUTPUT.replace(was, said, 1))


def test_another_gzip_may_compress_otherwise() -> None:
    assert archive.parse(OUTPUT.replace(" 339399 ", " 338000 ").replace("68.7%", "68.9%")).operations == 1
