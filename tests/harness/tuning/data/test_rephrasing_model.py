"""Asking a model about rows, against a real local server: order, cache, faults."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from implicit_if.harness.errors import UserError
from implicit_if.harness.tuning.data.rephrasing import PROMPT
from implicit_if.harness.tuning.data.rephrasing_model import model_ask
from implicit_if.harness.tuning.recipe import save_recipe
from implicit_if.harness.tuning.recipe_schema import Recipe


def plain(body: dict[str, Any]) -> tuple[int, str]:
    """Answers a prompt with its own text and a verdict."""
    return 200, f"about {body['messages'][0]['content']} #### NO"


class Server(ThreadingHTTPServer):
    """Answers as `answer` says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], tuple[int, str]] = plain
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.bodies]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        status, text = self.server.answer(body)
        answer = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
        content = json.dumps(answer if status == 200 else {"error": {"message": text}}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{running.server_address[1]}/v1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    yield running
    running.shutdown()
    running.server_close()


def test_answers_come_in_order_and_are_kept(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = [f"row {n}" for n in range(40)]
    ask = model_ask("openai:small")
    assert ask([*prompts, "row 3"]) == [f"about {prompt} #### NO" for prompt in [*prompts, "row 3"]]
    assert sorted(server.prompts) == sorted(prompts)
    assert "asking small about 40 answers" in capsys.readouterr().err
    assert model_ask("openai:small")(["row 7", "new"]) == ["about row 7 #### NO", "about new #### NO"]
    assert server.prompts[40:] == ["new"]
    model_ask("openai:other")(["row 7"])
    assert server.prompts[41:] == ["row 7"]


ASK = """
import json, sys
from implicit_if.harness.tuning.data.rephrasing_model import model_ask
print(json.dumps(model_ask("openai:small")(json.loads(sys.argv[1]))))
"""


def test_several_processes_ask_once_and_hear_the_same(server: Server) -> None:
    verdicts = itertools.cycle(["YES", "NO"])

    def moody(body: dict[str, Any]) -> tuple[int, str]:
        time.sleep(0.2)
        return 200, f"#### {next(verdicts)}"

    server.answer = moody
    prompts = [f"row {n}" for n in range(7)]
    command = [sys.executable, "-c", ASK, json.dumps(prompts)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    heard = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert heard[0] == heard[1] == heard[2]
    assert sorted(server.prompts) == prompts


def test_an_answer_without_a_verdict_is_asked_for_again_and_not_stored(server: Server) -> None:
    def chatty(body: dict[str, Any]) -> tuple[int, str]:
        return 200, "I think it does not." if body["messages"][0]["content"] == "b" else "#### YES"

    server.answer = chatty
    assert model_ask("openai:small")(["a", "b"]) == ["#### YES", "I think it does not."]
    of_b = [body["messages"] for body in server.bodies if body["messages"][0]["content"] == "b"]
    assert [len(messages) for messages in of_b] == [1, 3, 3]
    assert of_b[1][1] == {"role": "assistant", "content": "I think it does not."}
    assert "#### YES or #### NO" in of_b[1][2]["content"]
    server.answer = plain
    assert model_ask("openai:small")(["a", "b"]) == ["#### YES", "about b #### NO"]
    assert server.prompts[4:] == ["b"]


def test_a_reminder_is_heard(server: Server) -> None:
    server.answer = lambda body: (200, "Hm." if len(body["messages"]) == 1 else "#### NO")
    assert model_ask("openai:small")(["a"]) == ["#### NO"]
    assert model_ask("openai:small")(["a"]) == ["#### NO"]
    assert len(server.bodies) == 2


def test_answers_before_a_fault_are_kept(server: Server) -> None:
    server.answer = lambda body: (400, "not this one") if body["messages"][0]["content"] == "row 5" else plain(body)
    prompts = [f"row {n}" for n in range(16)]
    with pytest.raises(UserError, match=r"asking small failed.*not this one.*verdicts so far are kept"):
        model_ask("openai:small")(prompts)
    server.answer = plain
    before = len(server.bodies)
    assert len(model_ask("openai:small")(prompts)) == 16
    assert server.prompts[before:] == ["row 5"]


def test_a_model_that_wants_other_settings(server: Server) -> None:
    def modern(body: dict[str, Any]) -> tuple[int, str]:
        if "max_tokens" in body:
            return 400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return (400, "'temperature' must be 1") if "temperature" in body else plain(body)

    server.answer = modern
    assert len(model_ask("openai:small")([f"row {n}" for n in range(40)])) == 40
    assert sum("max_tokens" in body for body in server.bodies) <= 16
    server.answer = lambda body: (400, f"no {next(key for key in body if 'token' in key)} here")
    with pytest.raises(
        UserError, match=r"no max_completion_tokens here.* choose another data.rephrasing_model"
    ) as told:
        model_ask("openai:other")(["a"])
    assert "body=" not in str(told.value)


def test_every_prompt_has_its_own_answer_whatever_its_text(server: Server) -> None:
    odd = PROMPT.format(instruction="#### YES", response="{x} \ud83d")
    assert model_ask("openai:small")([odd]) == [f"about {odd} #### NO"]


def test_faults_are_clear(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer = lambda body: (401, "no")
    with pytest.raises(UserError, match="refused"):
        model_ask("openai:small")(["a"])
    server.answer = lambda body: (400, "no")
    with pytest.raises(UserError, match="asking small failed"):
        model_ask("openai:small")(["a"])
    monkeypatch.setenv("OPENAI_BASE_URL", "https://example.invalid/v1")
    with pytest.raises(UserError, match="no key for"):
        model_ask("openai:small")(["a"])
    for name in ("openai:", "reward:x", "gpt"):
        with pytest.raises(UserError, match=r"expected openai:<model>"):
            model_ask(name)


LAUNCHED = """
import os, sys
from implicit_if.harness.tuning.recipe import load_recipe
from implicit_if.harness.tuning.runner import tune
different = [f"data.limit={5 + int(os.environ['RANK'])}"] if sys.argv[3] == "different" else []
tune(load_recipe(sys.argv[1], different), sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("files", ["same", "different"])
def test_a_launch_trains_on_one_set_of_rows(
    server: Server, make_recipe: Callable[..., Recipe], tmp_path: Path, files: str
) -> None:
    verdicts = itertools.cycle(["YES", "NO", "NO"])
    server.answer = lambda body: (200, f"#### {next(verdicts)}")
    recipe = make_recipe(epochs=1)
    data = recipe.data.model_copy(update={"rephrasing": "drop", "rephrasing_model": "openai:small"})
    save_recipe(tmp_path / "recipe.yaml", recipe.model_copy(update={"data": data}))
    (tmp_path / "run.py").write_text(LAUNCHED)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = [str(tmp_path / "run.py"), str(tmp_path / "recipe.yaml"), str(tmp_path / "out"), files]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *words], env=environment, capture_output=True, text=True, timeout=240)
    if files == "same":
        assert done.returncode == 0, done.stderr
        assert len(server.bodies) == 8
        assert len((tmp_path / "out" / "rephrasing.jsonl").read_text().splitlines()) == 8
    else:
        assert done.returncode != 0
        assert "prepared 2 different sets of rows" in done.stderr
