"""The page of runs on this machine: what it says of each answer, in a browser, without any request."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from factory import LOOKALIKE_SEED, LongestJudge, judge_all, outputs

from implicit_if.harness.errors import UserError
from implicit_if.harness.instructions import load_instructions
from implicit_if.harness.judging.judged_run import sidecar
from implicit_if.harness.outputs import Output, save_outputs
from implicit_if.harness.records import append_records
from implicit_if.harness.storage import jsonl_bytes
from implicit_if.leaderboards.commands import view as command
from implicit_if.leaderboards.runs import loading
from implicit_if.leaderboards.runs.loading import load_runs
from implicit_if.leaderboards.runs.run import Reading, Run
from implicit_if.leaderboards.runs.token_ranks import load_ranks, ranks_of
from implicit_if.leaderboards.runs.view import make_view

EVIL = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>"
AXE_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
WIDTHS = (390, 820, 1280)


def save(folder: Path, name: str, system: Sequence[Output], reference: Sequence[Output]) -> Path:
    """A `save=` folder of the task."""
    meta = sidecar(name, load_instructions("builtin"), None, {"max_gen_toks": 256}, {}, template_tags=["<|user|>"])
    save_outputs(folder / name / "outputs.json", system, meta)
    save_outputs(folder / name / "reference.json", reference)
    lines = [a.model_dump() for a in judge_all(LongestJudge(), system, reference)]
    (folder / name / "annotations.jsonl").write_bytes(jsonl_bytes(lines))
    return folder / name


def tokens_of(text: str) -> list[dict[str, Any]]:
    """Words with the rank that their length gives."""
    parts = re.findall(r"\s*\S+|\s+$", text)
    return [{"text": part, "rank": len(part.strip()), "base_choice": "the", "moved": {}} for part in parts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs against one reference, an outputs file that nothing was judged of, and token ranks of the first run."""
    folder = tmp_path_factory.mktemp("runs")
    reference = outputs("sibling", 80, LOOKALIKE_SEED)
    first = outputs("first", 80, 3, words=(20, 200))
    loop = first[0].model_copy(update={"output": "again and again and " * 30, "finish_reason": "length"})
    evil = first[1].model_copy(update={"output": EVIL})
    save(folder, "first", [loop, evil, *first[2:]], reference)
    save(folder, "second", outputs("second", 80, 4, words=(50, 90)), reference)
    save_outputs(folder / "alone.json", outputs("alone", 80, 5))
    ranked = {"of": "0" * 64, "tokens": tokens_of(first[2].output), "end": None, "exact": True}
    append_records(folder / "shift" / "ranks" / "0123.jsonl", [ranked])
    return folder


def view(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([*map(str, arguments), "--no-browser"]))


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPLICIT_IF_CACHE", str(folder / "cache"))
        runs = [f"A={folder / 'first'}", folder / "second", folder / "alone.json"]
        view(*runs, "--bundle", folder / "page", "--token-shift", folder / "shift")
    return folder / "page" / "index.html"


@pytest.fixture
def tab(browser: Any, page: Path) -> Iterator[Any]:
    """A tab that fails the test if the page errs or asks for anything but itself."""
    problems: list[str] = []
    opened = browser.new_context(offline=True).new_page()
    opened.on("pageerror", lambda error: problems.append(f"error: {error}"))
    opened.on("console", lambda message: problems.append(f"console: {message.text}"))
    opened.on("request", lambda request: problems.append(request.url) if "index.html" not in request.url else None)
    opened.goto(page.as_uri())
    yield opened
    assert not opened.evaluate("window.hacked")
    opened.context.close()
    assert not [problem for problem in problems if "axe" not in problem]


def test_the_summary_has_every_run_and_the_reference(tab: Any, folder: Path) -> None:
    assert "stand in 2 tables: choose one under Board" in tab.locator("body").inner_text()
    rows = [text.split("\t")[0].strip() for text in tab.locator("table.chart tbody tr").all_inner_texts()]
    assert rows == ["A", "second", "sibling"]
    cards = tab.locator(".gallery .cards").first.locator(".card h4").all_inner_texts()
    assert [card.partition(" (")[0] for card in cards] == ["A", "second", "sibling"]
    own = json.loads((folder / "second" / "outputs.json").read_text())
    other = {o["instruction_id"]: o for o in json.loads((folder / "second" / "reference.json").read_text())}
    wins = [
        0.5
        if len(o["output"]) == len(other[o["instruction_id"]]["output"])
        else float(len(o["output"]) > len(other[o["instruction_id"]]["output"]))
        for o in own
    ]
    second = tab.locator("table.chart tbody tr").nth(1).inner_text()
    assert f"{100 * sum(wins) / 80:.1f}" in second
    assert "the reference" in tab.locator("table.chart tbody tr").nth(2).inner_text()
    tab.get_by_label("Board").select_option(index=1)
    tab.wait_for_selector("table.chart >> text=alone")


def test_answers_side_by_side_can_be_filtered_by_form_and_outcome(tab: Any) -> None:
    tab.locator("table.chart").get_by_role("link", name="A", exact=True).click()
    tab.wait_for_selector("article")
    assert tab.locator("article").first.locator(".sides > div").count() == 2
    tab.get_by_label("Form of failure").select_option("loop")
    assert tab.get_by_role("status").inner_text() == "1 of 1 answer, 80 in all"
    assert {"loop", "cut"} <= {t.split(":")[0] for t in tab.locator("article .form").all_inner_texts()}
    tab.get_by_label("Form of failure").select_option("")
    tab.get_by_label("Outcome").select_option("loss")
    assert "80 in all" in tab.get_by_role("status").inner_text()
    assert tab.locator("article .verdicts .loss").count() == tab.locator("article").count()


def test_tokens_are_coloured_by_their_rank(tab: Any, folder: Path) -> None:
    assert not tab.get_by_label("control rows").is_visible()
    answer = json.loads((folder / "first" / "outputs.json").read_text())[2]
    tab.locator("table.chart").get_by_role("link", name="A", exact=True).click()
    tab.wait_for_selector("article")
    tab.get_by_label("Search instructions").fill(answer["instruction"])
    ranked = tab.locator("article .ranked")
    assert ranked.count() == 1
    assert ranked.text_content() == answer["output"]
    words = answer["output"].split()
    assert ranked.locator("mark.marginal").count() == sum(len(w) in (2, 3) for w in words)
    assert ranked.locator("mark.shifted").count() == sum(len(w) > 3 for w in words)
    assert "rank" in ranked.locator("mark").first.get_attribute("title")


def test_a_file_of_outputs_is_shown_without_verdicts(tab: Any) -> None:
    tab.get_by_label("Board").select_option(index=1)
    tab.locator("table.chart").get_by_role("link", name="alone").click()
    tab.wait_for_selector("article")
    assert tab.locator("article").first.locator(".sides > div").count() == 1
    assert "not judged" not in tab.locator("main").inner_text()


@pytest.mark.parametrize("width", WIDTHS)
def test_accessibility_and_width(tab: Any, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    tab.set_viewport_size({"width": width, "height": 900})
    tab.reload()
    for where in ("summary", "answers"):
        if where == "answers":
            tab.locator("table.chart").get_by_role("link", name="A", exact=True).click()
            tab.wait_for_selector("article")
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            found = axe.run(tab, options=AXE_RULES).response["violations"]
            assert not [f"{v['id']}: {v['nodes'][0]['html'][:120]}" for v in found], (where, scheme)
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_without_a_bundle_the_page_is_in_the_cache_and_its_address_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(tmp_path))
    assert view(folder / "alone.json", "--judge-attempts", "none") == 0
    (page,) = (tmp_path / "view").glob("*/index.html")
    assert capsys.readouterr().out.strip() == f"1 run: {page.resolve().as_uri()}"


def test_a_folder_of_the_user_s_own_files_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMPLICIT_IF_CACHE", str(tmp_path / "cache"))
    save_outputs(tmp_path / "mine" / "outputs.json", outputs("mine", 4, 5))
    assert view(tmp_path / "mine", "--judge-attempts", "none") == 0
    assert capsys.readouterr().out.startswith("1 run: file:")


def test_an_ablation_shows_the_answers_beside_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systems = {name: outputs(name, 4, seed) for seed, name in enumerate(("base", "rules", "without eos"), start=5)}
    for name, answers in systems.items():
        save_outputs(tmp_path / "outputs" / f"{name.replace(' ', '-')}.json", answers)
    verdicts = [judge_all(LongestJudge(), answers, systems["base"]) for answers in list(systems.values())[1:]]
    (tmp_path / "annotations.jsonl").write_bytes(jsonl_bytes([a.model_dump() for one in verdicts for a in one]))
    signature = (
        f"task:alpaca_winrate|set:builtin@b0ca9101|n:4|ref:base@{'0' * 8}|judge:longest@{'1' * 8}|orders:1|v:0.1.0"
    )
    told = {"value": 62.5, "interval": None, "n_judged": 4, "n_expected": 4, "signature": signature}
    rows = [{"system": n, "preset": n, "scores": {} if n == "base" else {"win_rate": told}} for n in systems]
    table = {"setting": {"reference": "base"}, "rows": rows}
    (tmp_path / "table.json").write_text(json.dumps(table))
    runs = load_runs(str(tmp_path), Reading())
    assert [run.name for run in runs] == list(systems)
    for run, lines in zip(runs[1:], verdicts, strict=True):
        assert run.scores["win_rate"].value == 62.5  # the table's
        assert run.judged is not None
        assert sorted(v.preference or 0 for v in run.judged.judgement) == sorted(a.preference or 0 for a in lines)
        assert {o.output for o in run.judged.outputs} == {o.output for o in systems[run.name]}
    shown = make_view(runs).html
    assert all(json.dumps(o.output)[1:-1] in shown for answers in systems.values() for o in answers)
    shutil.rmtree(tmp_path / "outputs")
    assert load_runs(str(tmp_path), Reading())[1].judged is None


def test_a_run_of_lm_eval_without_answers_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Run("whole", {}, {})

    def read(path: Path, *_: Any, **__: Any) -> Path:
        if path.name == "bare":
            raise UserError("samples.jsonl: no such file.")
        return path

    monkeypatch.setattr(loading, "read_source", read)
    monkeypatch.setattr(loading, "_of_source", lambda *_: whole)
    monkeypatch.setattr(loading, "judged_results", lambda folder: {Path("bare"): {}, Path("whole"): {}})
    assert load_runs(str(tmp_path), Reading()) == [whole]
    assert capsys.readouterr().err == "implicit-if: note: left out: samples.jsonl: no such file.\n"
    monkeypatch.setattr(loading, "judged_results", lambda folder: {Path("bare"): {}})
    with pytest.raises(UserError, match=r"^samples\.jsonl"):
        load_runs(str(tmp_path), Reading())


def test_many_answers_stand_beside_the_page(folder: Path, tmp_path: Path) -> None:
    from implicit_if.leaderboards.runs.view import write_view

    runs = [run for name in ("first", "second") for run in load_runs(str(folder / name), Reading())]
    small = make_view(runs, budget=150_000)
    path = write_view(small, tmp_path)
    assert path.stat().st_size < 150_000
    names = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.js")}
    assert names == set(small.beside)
    assert len(names) == 3  # two systems, and what they share
    assert make_view(runs).beside == {}


def test_ranks_are_found_by_the_answer_s_text_and_ambiguous_ones_left_out(tmp_path: Path) -> None:
    def rows(*ranks: int) -> list[dict[str, Any]]:
        tokens = [{"text": t, "rank": r, "base_choice": "x"} for t, r in zip(("a", " b"), ranks, strict=True)]
        return [{"of": "1" * 64, "tokens": tokens, "end": None, "exact": True}]

    append_records(tmp_path / "ranks" / "1.jsonl", rows(1, 5))
    answers = outputs("x", 2, 1)
    known = answers[0].model_copy(update={"output": "a b"})
    assert ranks_of(load_ranks([tmp_path]), [answers[1], known]) == [None, [("a", 1, "x"), (" b", 5, "x")]]
    append_records(tmp_path / "ranks" / "2.jsonl", rows(2, 5))
    assert ranks_of(load_ranks([tmp_path]), [known]) is None
    with pytest.raises(UserError, match="no ranks of tokens"):
        load_ranks([tmp_path / "ranks"])
