"""What is shipped beside the code: configurations, prompts, prices; and the judges under the real runner."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from fake_server import FakeServer, Reply, chat, error
from judge_samples import KEY

from implicit_if.harness.cli import main
from implicit_if.harness.judging import get_judge
from implicit_if.harness.judging.api import options
from implicit_if.harness.judging.backends.openai import OpenAIOptions
from implicit_if.harness.judging.pairs import make_pairs
from implicit_if.harness.judging.protocol import JudgeError
from implicit_if.harness.judging.registry import CONFIGS
from implicit_if.harness.judging.runner import annotate
from implicit_if.harness.outputs import Output, save_outputs

ROOT = Path(__file__).parents[4]
SHIPPED = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_builds(name: str) -> None:
    judge = get_judge(name)
    assert re.fullmatch("[0-9a-f]{64}", judge.fingerprint)
    assert get_judge(name).fingerprint == judge.fingerprint


@pytest.mark.parametrize("name", [n for n in SHIPPED if n.startswith("skywork")])
def test_reward_models_are_pinned(name: str) -> None:
    assert re.fullmatch("[0-9a-f]{40}", yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["revision"])


def test_shipped_judges_differ() -> None:
    assert len({get_judge(name).fingerprint for name in SHIPPED}) == len(SHIPPED)


def test_prices_are_dated_pairs() -> None:
    content = yaml.safe_load(options._PRICES.read_text())
    assert re.fullmatch(r"20\d\d-\d\d", str(content["as_of"]))
    for pair in options.price_list()[1].values():
        assert 0 < pair[0] <= pair[1]


def outputs(name: str, n: int) -> list[Output]:
    return [
        Output.model_validate({"instruction": f"q {i}", "output": f"{name} {i}", "generator": name}) for i in range(n)
    ]


def test_under_the_runner_faults_cost_nothing_but_time(server: FakeServer, tmp_path: Path) -> None:
    """Both orders, transient faults, one hopeless pair; the second call asks only for what is missing."""
    pairs = make_pairs(outputs("system", 20), outputs("reference", 20))
    broken = True

    def respond(request: object) -> Reply:
        prompt = getattr(request, "prompt", "")
        if broken and "system 7\n" in prompt:
            return chat("Hard to say.", {"Hard": 1.0})
        first = prompt.index("system") < prompt.index("reference 1" if "reference 1" in prompt else "reference")
        return chat("m", {"m": 0.9, "M": 0.1} if first else {"m": 0.3, "M": 0.7})

    server.respond = respond
    server.script.extend([error(500), error(429, retry_after="0.1"), Reply(fault="drop"), Reply(b"{")])
    judge = get_judge("openai:fake", base_url=server.url, backoff=0.01, logprobs="required")
    result = annotate(pairs, judge, tmp_path / "a.jsonl", progress=False)
    assert (result.n_judged, result.n_expected) == (19, 20)
    assert {u.order for u in result.unjudged} == {"system_first", "reference_first"}
    asked = len(server.requests)
    assert asked == 40 + 4
    broken = False
    result = annotate(pairs, judge, tmp_path / "a.jsonl", progress=False)
    assert result.complete
    assert len(server.requests) == asked + 2
    assert result.preferences.tolist() == pytest.approx([0.8] * 20)


def test_under_the_runner_a_wrong_key_keeps_what_there_is(server: FakeServer, tmp_path: Path) -> None:
    pairs = make_pairs(outputs("system", 50), outputs("reference", 50))
    judge = get_judge("openai:fake", base_url=server.url, logprobs="required", concurrency=4)
    server.script.extend([chat("m", {"m": 0.9, "M": 0.1})] * 30)
    server.respond = lambda _: error(401)
    with pytest.raises(JudgeError, match=r"OPENAI_API_KEY.*30 of 100 verdicts are kept"):
        annotate(pairs, judge, tmp_path / "a.jsonl", progress=False)
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 30


@pytest.mark.parametrize("said", ["half \ud83d", "x" * 3_000_000, "\x00\x1b[2J", f"your key is {KEY}"])
def test_under_the_runner_whatever_a_judge_says_can_be_stored(server: FakeServer, tmp_path: Path, said: str) -> None:
    pairs = make_pairs(outputs("system", 1), outputs("reference", 1))
    for mode, top in (("required", {said[:50]: 0.5, "m": 0.5}), ("text", None)):
        server.respond = lambda _, top=top: chat(said, top)
        judge = get_judge("openai:fake", base_url=server.url, logprobs=mode)
        annotate(pairs, judge, tmp_path / f"{mode}.jsonl", progress=False)
        stored = (tmp_path / f"{mode}.jsonl").read_text()
        assert len(stored) < 100_000
        assert KEY not in stored
        for record in map(json.loads, stored.splitlines()):
            assert record["raw"].encode(), "half a character would be refused by other readers of JSON"
            assert record["error"] is None or record["error"].encode()


def test_the_documented_sheet_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "judges.md").read_text(encoding="utf-8").split("sheets\n\n```bash\n")[1]
    commands = [shlex.split(line) for line in text.split("```")[0].replace("\\\n", " ").splitlines()]
    assert [command[0] for command in commands] == ["implicit-if"] * 2
    monkeypatch.chdir(tmp_path)
    save_outputs("outputs.json", outputs("system", 4))
    save_outputs("reference.json", outputs("reference", 4))
    assert main(commands[0][1:]) == 0
    assert sorted(path.name for path in Path("rating").iterdir()) == ["sheet.csv", "sheet.html", "sheet.jsonl"]
    assert main(commands[1][1:]) == 1
    assert capsys.readouterr().out.count("not judged yet") == 4


def test_the_documented_options_exist() -> None:
    text = (ROOT / "docs" / "judges.md").read_text(encoding="utf-8")
    table = text.split("| option | default | |")[1].split("\n\n")[0]
    named = {n for row in table.splitlines()[2:] for n in re.findall("`([a-z_]+)`", row.split("|")[1])}
    assert named - set(OpenAIOptions.model_fields) == set()
    assert set(OpenAIOptions.model_fields) - named == {"base_url", "key_env"}
