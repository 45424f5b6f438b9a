"""The build as a whole: the same bytes from the same submissions, nothing stale, nothing half written."""

from __future__ import annotations

import argparse
import html
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from factory import LongestJudge, make_submission, outputs

from implicit_if.harness.errors import UserError
from implicit_if.leaderboards.boards import build
from implicit_if.leaderboards.commands import leaderboard
from implicit_if.leaderboards.site import page

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\u202e|=cmd()\u2028"
GENERATED = {
    "README.md",
    "rules.md",
    "leaderboard.csv",
    "leaderboard.json",
    "rules.csv",
    "rules.json",
    "page.html",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with submissions of several kinds, boards and badges, not built yet."""
    root = tmp_path_factory.mktemp("leaderboards")
    folder = root / "submissions"
    rules = {"kind": "rules", "preset": "paper"}
    make_submission(folder, name="acme/base", system={"kind": "base"}, seed=1)
    make_submission(folder, name="acme/rules", system=rules, seed=2)
    make_submission(folder, name="acme/no-eos", system=rules | {"without": ["eos"]}, seed=3)
    for seed in (4, 5):
        make_submission(
            folder, name="acme/tuned", revision=f"s{seed}", system={"kind": "response", "seed": seed}, seed=seed
        )
    make_submission(folder, name="acme/longest", system=rules, seed=6, judge=LongestJudge())
    evil = [o.model_copy(update={"output": f"{EVIL} {i} {o.output}"}) for i, o in enumerate(outputs("evil", 12, 7))]
    described = {"kind": "other", "description": "</script><b>=1+1 | [x](javascript:1)"}
    model = {"name": "<!-- implicit-if: end boards -->"}
    make_submission(
        folder, name="evil/evil", system=described, answers=evil, reference_name="<b>|`base`", base_model=model
    )
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy to build in."""
    shutil.copytree(made, tmp_path / "root")
    return tmp_path / "root"


def run(root: Path, *options: str) -> int:
    """`implicit-if leaderboard`, in this process."""
    parser = argparse.ArgumentParser()
    leaderboard.add_arguments(parser)
    return leaderboard.run(parser.parse_args(["--root", str(root), "--processes", "1", *options]))


def contents(root: Path) -> dict[str, bytes]:
    """Everything under the root but the submissions."""
    paths = [p for p in sorted(root.rglob("*")) if p.is_file() and "submissions" not in p.parts]
    return {str(p.relative_to(root)): p.read_bytes() for p in paths}


def test_build_then_check_then_nothing_to_do(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "--check") == 1
    assert not contents(root)
    assert run(root) == 0
    before = contents(root)
    assert {name for name in before if "/" not in name} == GENERATED
    assert sum(name.startswith("figures/") for name in before) == 7  # two of each of three boards, one ablation
    capsys.readouterr()
    assert run(root, "--check") == 0
    assert "up to date" in capsys.readouterr().out
    assert run(root) == 0
    assert "0 files changed" in capsys.readouterr().out
    assert contents(root) == before


def test_check_names_every_file_that_differs_and_the_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root)
    rng = random.Random(0)
    for name, data in contents(root).items():
        place = rng.randrange(len(data))
        if name in ("README.md", "rules.md"):  # prose outside of the markers is the maintainers'
            place = data.index(b"begin") + 60
        (root / name).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        capsys.readouterr()
        assert run(root, "--check") == 1, name
        told = capsys.readouterr().err
        assert f"\n  {name}\n" in told
        assert f"implicit-if leaderboard --root {root}" in told
        (root / name).write_bytes(data)
    assert run(root, "--check") == 0
    (root / "figures" / "rules-000000000000.svg").write_text("old")
    (root / "page.html").unlink()
    (root / "figures" / "mine.svg").write_text("a maintainer's")
    assert run(root, "--check") == 1
    told = capsys.readouterr().err
    assert "figures/rules-000000000000.svg" in told
    assert "page.html" in told
    assert "mine.svg" not in told
    assert run(root) == 0
    assert run(root, "--check") == 0
    assert (root / "figures" / "mine.svg").exists()


def test_what_no_submission_needs_any_more_goes(root: Path) -> None:
    run(root)
    shutil.rmtree(root / "submissions" / "acme__longest")
    shutil.rmtree(root / "submissions" / "acme__no-eos")
    run(root)
    assert sum(name.startswith("figures/") for name in contents(root)) == 4
    for folder in (root / "submissions").iterdir():
        shutil.rmtree(folder)
    run(root)
    assert not (root / "figures").exists()
    assert "No submissions yet." in (root / "README.md").read_text()
    assert "Published" in (root / "README.md").read_text()
    assert run(root, "--check") == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "77", "TZ": "America/St_Johns", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
    ],
    ids=["C", "tr_TR"],
)
def test_locale_time_zone_hash_seed_and_order_of_files_change_no_byte(
    root: Path, tmp_path: Path, changes: dict[str, str]
) -> None:
    run(root)
    other = tmp_path / "other"
    folders = list((root / "submissions").rglob("metadata.yaml"))
    for path in random.Random(changes["TZ"]).sample(folders, len(folders)):  # the disk lists them in another order
        shutil.copytree(path.parent, other / path.parent.relative_to(root))
    script = (
        "import os, random, sys\n"
        "from pathlib import Path\n"
        "real = Path.iterdir\n"
        "Path.iterdir = lambda self: iter(random.Random(5).sample(found := list(real(self)), len(found)))\n"
        "import argparse\n"
        "from implicit_if.leaderboards.commands import leaderboard as c\n"
        "p = argparse.ArgumentParser(); c.add_arguments(p); sys.exit(c.run(p.parse_args()))\n"
    )
    environment = {**os.environ, **changes, "IMPLICIT_IF_CACHE": str(tmp_path / "other-cache")}
    command = [sys.executable, "-c", script, "--root", str(other), "--processes", "2"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert contents(other) == contents(root)


def test_hostile_texts_stay_text_in_every_file(root: Path) -> None:
    run(root)
    for name, data in contents(root).items():
        text = data.decode("utf-8")
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u2028\u2029]", text), name
        if name.endswith(".html"):
            assert text.count("<script") == text.count("</script>")
            assert "onerror" not in re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
            assert "<b>" not in text
            assert "<img" not in text
        if name.endswith(".svg"):
            assert "<b>" not in text
        if name.endswith(".md"):
            assert "<b>" not in re.sub(r"(`+)[^`].*?\1", "", text)
        if name.endswith(".csv"):
            assert not re.search(r"(^|,)\"?[=@]", text, flags=re.MULTILINE)


def embedded(root: Path) -> dict[str, object]:
    """The JSON in the page, by the id of its element."""
    text = (root / "page.html").read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', text, flags=re.DOTALL)
    return {name: json.loads(value) for name, value in found}


def test_the_page_holds_the_answers_as_they_are(root: Path) -> None:
    run(root)
    held = embedded(root)
    boards = held["data"]["boards"]  # type: ignore[index,call-overload]
    row = next(r for b in boards for r in b["rows"] if r.get("name") == "evil/evil")
    own = held[f"payload-{row['members'][0]['key']}"]
    expected = {o.instruction_id: f"{EVIL} {i} {o.output}" for i, o in enumerate(outputs("evil", 12, 7))}
    pairing = held[f"payload-{own['pairing']}"]  # type: ignore[index,call-overload]
    assert dict(zip(pairing["ids"], own["outputs"], strict=True)) == expected  # type: ignore[index,call-overload]
    assert pairing["texts"] == [None] * 12  # type: ignore[index,call-overload]  # "made" may not ship its texts


def test_the_policy_allows_our_script_and_style_only(root: Path) -> None:
    import base64
    import hashlib

    run(root)
    text = (root / "page.html").read_text(encoding="utf-8")
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0])
    for tag in ("script", "style"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "strict-dynamic" not in policy
    assert not re.search(r"(src|href)=\"?(https?:)?//", text.split("<script")[0])


def test_answers_that_do_not_fit_lie_beside_the_page(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "BUDGET", 80_000)
    run(root)
    beside = sorted((root / "answers").iterdir())
    assert len(beside) == 7 + 1  # submissions, and the answers of the reference that all share
    assert (root / "page.html").stat().st_size < 80_000
    assert set(embedded(root)) == {"data"}
    assert "strict-dynamic" in (root / "page.html").read_text()
    stamps = {path: path.stat().st_mtime_ns for path in beside}
    make_submission(root / "submissions", name="acme/new", seed=9)
    run(root)
    assert {path: path.stat().st_mtime_ns for path in beside} == stamps
    assert len(list((root / "answers").iterdir())) == 9
    assert run(root, "--check") == 0
    whole = beside[0].read_bytes()
    beside[0].write_bytes(whole[:-3])
    assert run(root, "--check") == 1
    beside[0].write_bytes(whole)
    shutil.rmtree(root / "submissions" / "acme__new")
    run(root)
    assert sorted((root / "answers").iterdir()) == beside
    monkeypatch.undo()
    run(root)
    assert not (root / "answers").exists()


def test_a_failure_while_writing_changes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(root)
    before = contents(root)
    make_submission(root / "submissions", name="acme/new", seed=9)
    real, calls = os.fsync, []

    def full_disk(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        real(handle)

    built = build.build(root, processes=1)
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        build.write(root, built)
    assert contents(root) == before
    monkeypatch.undo()
    build.write(root, built)
    assert run(root, "--check") == 0


def test_prose_is_kept_and_missing_markers_are_an_error(root: Path) -> None:
    run(root)
    readme = root / "README.md"
    readme.write_text("# Mine\n" + readme.read_text().partition("\n\n")[2] + "tail\n")
    run(root)
    assert readme.read_text().startswith("# Mine\n")
    assert readme.read_text().endswith("tail\n")
    before = contents(root)
    readme.write_text(readme.read_text().replace("begin boards", "start boards"))
    with pytest.raises(UserError, match=r"README\.md: the part 'boards'"):
        run(root)
    assert contents(root).keys() == before.keys()


def test_warnings_of_controls_reach_stderr(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    control = {"kind": "control", "control": "longest_of_two"}
    make_submission(
        root / "submissions", name="c/longest", system=control, seed=11, words=(400, 500), judge=LongestJudge()
    )
    make_submission(root / "submissions", name="c/weak", seed=12, words=(3, 5), judge=LongestJudge())
    run(root, "--check")
    assert re.search(r"note: the control longest_of_two \(100\.0 %\) beats .*c/weak", capsys.readouterr().err)


def test_a_wrong_root_and_a_wrong_submission_are_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"no folder submissions/ in it.*--root PATH"):
        run(tmp_path / "nowhere")
    scores = root / "submissions" / "acme__base" / "v1" / "scores.json"
    scores.write_text(scores.read_text().replace('"level": 0.95', '"level": 0.94'))
    assert run(root) == 1
    assert "not accepted: acme__base/v1: " in capsys.readouterr().err
