"""References stored once: submissions point to them by hash, and those that carry their own still verify."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from factory import make_submission

from implicit_if.harness.errors import UserError
from implicit_if.leaderboards.submission.read import SubmissionError, parse_yaml
from implicit_if.leaderboards.verification.pull_request import check
from implicit_if.leaderboards.verification.verify import verify
from implicit_if.leaderboards.verification.verify_all import verify_all


def test_submissions_share_a_reference_by_its_hash(tmp_path: Path) -> None:
    first = make_submission(tmp_path, name="acme/a", share=True)
    second = make_submission(tmp_path, name="acme/b", seed=2, share=True)
    own = make_submission(tmp_path, name="acme/own", seed=3)
    (shared,) = (tmp_path / "references").iterdir()
    assert not (first / "reference.jsonl").exists()
    assert shared.read_bytes() == (own / "reference.jsonl").read_bytes()
    assert shared.name == f"{hashlib.sha256(shared.read_bytes()).hexdigest()}.jsonl"
    for folder in (first, second, own):
        assert parse_yaml((folder / "metadata.yaml").read_bytes())["files"]["reference.jsonl"] == shared.stem
    assert [one.id for one in verify_all(tmp_path)] == ["acme__a/v1", "acme__b/v1", "acme__own/v1"]
    assert {str(verify(folder).scores["win_rate"].n_judged) for folder in (first, second, own)} == {"12"}


def test_the_same_submission_has_the_same_hash_with_its_own_and_a_shared_reference(tmp_path: Path) -> None:
    shared = verify(make_submission(tmp_path / "a", share=True))
    own = verify(make_submission(tmp_path / "b"))
    assert (shared.sha256, shared.scores, shared.form) == (own.sha256, own.scores, own.form)


def _changed(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"eos", b"stop", 1))


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _hard_link(path: Path) -> None:
    os.link(path, path.with_name("elsewhere"))


def _folder_link(path: Path) -> None:
    path.parent.rename(path.parents[1] / "elsewhere")
    path.parent.symlink_to(path.parents[1] / "elsewhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_changed, "reference.jsonl: its sha256 is not the one in metadata.yaml"),
        (lambda path: path.unlink(), "`files` names a file that is not there (reference.jsonl)"),
        (_link, "is a link; expected a file of its own"),
        (_hard_link, "is a link; expected a file of its own"),
        (_folder_link, "is in a folder that is a link"),
        (lambda path: path.write_bytes(b"x" * (25 << 20)), "expected at most"),
    ],
)
def test_a_reference_that_is_not_what_it_should_be_is_refused(tmp_path: Path, change: object, message: str) -> None:
    folder = make_submission(tmp_path, share=True)
    (path,) = (tmp_path / "references").iterdir()
    change(path)  # type: ignore[operator]
    with pytest.raises(SubmissionError) as error:
        verify(folder)
    assert message in str(error.value)


def test_a_changed_reference_is_noticed_although_the_submission_is_remembered(tmp_path: Path) -> None:
    folder = make_submission(tmp_path / "submissions", share=True)
    (path,) = (tmp_path / "submissions" / "references").iterdir()
    for file in (*folder.iterdir(), path):
        os.utime(file, (1, 1))
    for _ in range(2):
        assert len(verify_all(tmp_path / "submissions", cache=tmp_path / "cache")) == 1
    _changed(path)
    with pytest.raises(SubmissionError, match="its sha256 is not the one"):
        verify_all(tmp_path / "submissions", cache=tmp_path / "cache")


def test_a_pull_request_may_bring_the_reference_that_it_names_and_no_other(tmp_path: Path) -> None:
    root = tmp_path / "leaderboards" / "submissions"
    folder = make_submission(root, share=True)
    (path,) = (root / "references").iterdir()
    names = [os.fsencode(p.relative_to(tmp_path)) for p in (*folder.iterdir(), path)]
    assert check(tmp_path, names)[0].startswith("acme__parrot/v1: ")
    shutil.copy(path, path.with_name(f"{'0' * 64}.jsonl"))
    with pytest.raises(UserError, match="no submission names it"):
        check(tmp_path, names)
    with pytest.raises(UserError, match="Expected files of submissions only"):
        check(tmp_path, [b"leaderboards/submissions/references/x.jsonl", *names])
