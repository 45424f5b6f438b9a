"""The plan: a matrix as cells, in an order in which they can run. It touches no engine, no file, no model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from implicit_if.harness.replicate.cells import DATA, EPOCHS, ROWS, SOURCE, Cell, folder
from implicit_if.harness.replicate.costs import LIMA_SHORT, TOKENS, Work, costs
from implicit_if.harness.replicate.matrix import SIBLING, Matrix, Model
from implicit_if.harness.tuning.data.encode import prompt_template
from implicit_if.harness.tuning.recipe import load_recipe
from implicit_if.harness.tuning.recipe_schema import Recipe

PROGRAM = ("implicit-if",)
LM_EVAL = ("lm_eval",)
TABLES = "tables"
"""The folder of submissions, boards and comparison, and the name of the cell that makes the boards."""


def plan(matrix: Matrix) -> list[Cell]:
    """All cells of a matrix, each after those that it needs."""
    cells = [cell for model in matrix.models for cell in _Plan(matrix, model).cells()]
    if matrix.sweep is not None:
        cells.insert(0, _opponent(matrix.sweep.opponent, matrix.sweep.instructions))
    submissions = tuple(cell.name for cell in cells if cell.kind == "submit")
    boards = Cell(
        TABLES, TABLES, submissions, (*PROGRAM, "leaderboard", "--root", TABLES), (f"{TABLES}/leaderboard.json",)
    )
    beside = Cell(
        "comparison",
        "comparison",
        (TABLES,),
        (*PROGRAM, "replicate", "compare", TABLES, "--out", f"{TABLES}/comparison.md"),
        (f"{TABLES}/comparison.md",),
    )
    return [replace(cell, reads=_files(cell, matrix)) for cell in (*cells, boards, beside)]


def _files(cell: Cell, matrix: Matrix) -> tuple[str, ...]:
    words = cell.command
    return tuple(f for f in matrix.files if any(word == f or word.endswith(f"={f}") for word in words))


class _Plan:
    """The cells of one base model."""

    def __init__(self, matrix: Matrix, model: Model) -> None:
        self.matrix, self.model = matrix, model
        overrides = ["train.epochs=1"] if matrix.sweep is not None else []
        self.recipes = {r: load_recipe(r, [*overrides, *model.settings], base=model.base, profile=model.profile)
                        for r in model.recipes}  # fmt: skip

    def cells(self) -> Iterator[Cell]:
        m = self.model
        if self.matrix.sweep is not None:
            yield from (self._select(recipe) for recipe in m.recipes)
        for seed in self.matrix.seeds:
            yield from (self._tune(recipe, seed) for recipe in m.recipes)
            yield from (self._answer(f"{recipe}-s{seed}", self._of_tuned(recipe, seed), recipe) for recipe in m.recipes)
        untuned = dict(self._untuned())
        yield from (self._answer(system, args) for system, args in untuned.items())
        for seed in self.matrix.seeds:
            for recipe in m.recipes:
                yield from self._judged(recipe, f"{recipe}-s{seed}", sibling_of(recipe), seed, self._told(recipe, seed))
            for system in untuned:
                yield from self._judged(system, system, SIBLING, seed, self._kind(system))
        yield from (self._adherence(recipe) for recipe in m.recipes if kind_of(recipe) == "single_task")
        if m.ranking:
            yield self._ranking()

    def _name(self, kind: str, system: str) -> str:
        return f"{kind}-{self.model.name}-{system}"

    def _recipe_words(self, recipe: str) -> tuple[str, ...]:
        words = [recipe, "--base", self.model.base, "--profile", self.model.profile, "--data", DATA % recipe]
        return (*words, *(word for setting in self.model.settings for word in ("--set", setting)))

    def _select(self, recipe: str) -> Cell:
        sweep, m, name = self.matrix.sweep, self.model, self._name("select", recipe)
        assert sweep is not None
        there = folder(name)
        command = [*PROGRAM, "select", *self._recipe_words(recipe), "--out", f"{there}/sweep"]
        command += ["--epochs", ",".join(map(str, sweep.epochs)), "--seed", str(sweep.seed)]
        command += ["--instructions", sweep.instructions, "--reference", f"{folder(OPPONENT)}/outputs.json"]
        command += ["--judge", self.matrix.judge.name]
        if m.launcher:
            command += ["--launcher", " ".join(m.launcher)]
        asked = len(sweep.epochs) * sweep.n_instructions
        work = replace(
            self._training(recipe, sum(sweep.epochs), models=len(sweep.epochs)),
            answers=asked,
            new_tokens=self.matrix.max_new_tokens,
            verdicts=asked * self.matrix.judge.orders,
            judge=self.matrix.judge.name,
            paid=self.matrix.judge.api,
        )
        return Cell(
            name,
            "select",
            (OPPONENT,),
            tuple(command),
            (f"{there}/sweep/selection.json",),
            gpus=m.gpus,
            api=self.matrix.judge.api,
            scratch=f"{there}/sweep/epochs-*",
            costs=costs(work),
            recipe=recipe,
            recipe_sha256=self.recipes[recipe].fingerprint,
        )

    def _tune(self, recipe: str, seed: int) -> Cell:
        m, name = self.model, self._name("tune", f"{recipe}-s{seed}")
        model = f"{folder(name)}/model"
        words = ["tune", *self._recipe_words(recipe), "--seed", str(seed), "--out", model]
        needs: tuple[str, ...] = ()
        epochs = self.recipes[recipe].train.epochs
        if self.matrix.sweep is not None:
            needs = (self._name("select", recipe),)
            words += ["--set", f"train.epochs={EPOCHS % needs[0]}"]
            epochs = max(self.matrix.sweep.epochs)  # at most
        start = (*m.launcher, "-m", "implicit_if.harness.cli") if m.launcher else PROGRAM
        work = costs(self._training(recipe, epochs))
        return Cell(
            name,
            "tune",
            needs,
            (*start, *words),
            (model,),
            gpus=m.gpus,
            costs=work,
            recipe=recipe,
            recipe_sha256=self.recipes[recipe].fingerprint,
        )

    def _training(self, recipe: str, epochs: float, models: int = 1) -> Work:
        like = recipe if recipe in TOKENS else SIBLING if recipe.startswith(SIBLING) else "response"
        short = self.recipes[recipe].data.max_tokens is not None and TOKENS[like] > LIMA_SHORT
        lora = self.recipes[recipe].train.lora is not None
        return Work(
            parameters=self.model.parameters,
            adapters=lora,
            gpus=self.model.gpus,
            memory_gb=self.model.memory_gb,
            tokens=(LIMA_SHORT if short else TOKENS[like]) * epochs * self._share(recipe),
            models=models,
        )

    def _share(self, recipe: str) -> float:
        """How much of a recipe's rows the matrix's settings leave."""
        kept = self.recipes[recipe].data.limit
        if kept is None or not any(setting.startswith("data.limit=") for setting in self.model.settings):
            return 1.0
        usual = load_recipe(recipe, base=self.model.base, profile=self.model.profile).data.limit
        return min(1.0, kept / usual) if usual else 1.0

    def _of_tuned(self, recipe: str, seed: int) -> tuple[str, tuple[str, ...], str]:
        """Model arguments, needs and template of a tuned model that answers."""
        tuned = self._name("tune", f"{recipe}-s{seed}")
        template = prompt_template(self.recipes[recipe].encoding.template)
        return f"pretrained={folder(tuned)}/model,rules=none", (tuned,), template

    def _untuned(self) -> Iterator[tuple[str, tuple[str, tuple[str, ...], str]]]:
        """The same of the base model, its rules, and their ablations, by system."""
        m = self.model
        base = "" if m.base == "embedded" else f"pretrained={m.base},"
        yield "base", (f"{base}rules=none", (), "tulu")
        if m.rules is None:
            return
        yield "rules", (f"{base}rules={m.rules}", (), "tulu")
        for rule in m.without:
            yield f"without-{rule}", (f"{base}rules={m.rules},drop={rule}", (), "tulu")
        for rule, dropped in m.only.items():
            yield f"only-{rule}", (f"{base}rules={m.rules},drop={'+'.join(dropped)}", (), "tulu")

    def _answer(self, system: str, how: tuple[str, tuple[str, ...], str], recipe: str = "") -> Cell:
        arguments, needs, template = how
        name, m, matrix = self._name("answer", system), self.model, self.matrix
        command = [*LM_EVAL, "--model", "rules_poe", "--model_args", f"{arguments},dtype={m.dtype}"]
        command += answering(name, matrix.instructions, template, matrix.max_new_tokens)
        gpus = min(m.gpus, 1)
        work = Work(parameters=m.parameters, gpus=gpus, answers=matrix.n_instructions, new_tokens=matrix.max_new_tokens)
        cell = Cell(name, "answer", needs, tuple(command), answers_of(name), gpus=gpus, costs=costs(work))
        return replace(cell, recipe=recipe, withhold=True) if recipe and matrix.withhold else cell

    def _judged(self, short: str, system: str, sibling: str, seed: int, told: list[str]) -> Iterator[Cell]:
        """A system's verdicts against the sibling of a seed, and its submission."""
        matrix, judge = self.matrix, self.matrix.judge
        own, other = self._name("answer", system), self._name("answer", f"{sibling}-s{seed}")
        name = self._name("judge", f"{short}-s{seed}")
        annotations = f"{folder(name)}/annotations.jsonl"
        shared = ["--reference", f"{folder(other)}/outputs.json", "--annotations", annotations]
        shared += ["--judge", judge.name, "--instructions", matrix.instructions]
        command = [*PROGRAM, "judge", f"{folder(own)}/outputs.json", *shared, "--out", f"{folder(name)}/scores.json"]
        command += [word for key, value in judge.options.items() for word in ("--option", f"{key}={value}")]
        command += ["--judge-attempts", judge.attempts] if judge.attempts else []
        command += ["--max-cost", str(judge.max_cost)] if judge.max_cost is not None else []
        needs = tuple(dict.fromkeys((own, other)))
        work = Work(gpus=judge.gpus, verdicts=judge.orders * matrix.n_instructions, judge=judge.name, paid=judge.api)
        yield Cell(
            name,
            "judge",
            needs,
            tuple(command),
            (annotations, f"{folder(name)}/scores.json"),
            gpus=judge.gpus,
            api=judge.api,
            costs=costs(work),
        )
        title = f"{matrix.organisation}/{self.model.name}-{short}"
        submission = f"{TABLES}/submissions/{title.replace('/', '__')}/s{seed}"
        command = [*PROGRAM, "submit", f"{folder(own)}/outputs.json", *shared, "--name", title]
        command += ["--revision", f"s{seed}", "--licence", self.model.licence, "--base-licence", self.model.licence]
        base = "google/gemma-3-270m" if self.model.base == "embedded" else self.model.base
        command += ["--base-model", base, *told, "--root", f"{TABLES}/submissions", "--replace"]
        if judge.attempts not in (None, "none"):
            command += ["--judge-attempts", str(judge.attempts)]
        yield Cell(self._name("submit", f"{short}-s{seed}"), "submit", (name, *needs), tuple(command), (submission,))

    def _told(self, recipe: str, seed: int) -> list[str]:
        """What a tuned system's submission is told about it."""
        kind = kind_of(recipe)
        told = [
            "--system",
            kind,
            "--recipe",
            recipe,
            "--seed",
            str(seed),
            "--data",
            SOURCE % (recipe, _data(self.recipes[recipe])),
        ]
        return told + (["--task", recipe] if kind == "single_task" else [])

    def _kind(self, system: str) -> list[str]:
        """What an untuned system's submission is told about it."""
        if system == "base":
            return ["--system", "base"]
        told = ["--system", "rules", "--preset", str(self.model.rules)]
        change, _, rule = system.partition("-")
        return told + ([f"--{change}", rule] if rule else [])

    def _adherence(self, recipe: str) -> Cell:
        """How much the answers of the first seed's model keep to its task (Figure 5)."""
        name, answers = self._name("adherence", recipe), self._name("answer", f"{recipe}-s{self.matrix.seeds[0]}")
        command = [*PROGRAM, "adherence", f"{folder(answers)}/outputs.json", "--task-data", ROWS % recipe]
        command += ["--instructions", self.matrix.instructions, "--out", folder(name)]
        files = tuple(f"{folder(name)}/adherence.{kind}" for kind in ("json", "md", "svg"))
        return Cell(name, "adherence", (answers,), tuple(command), files, recipe=recipe)

    def _ranking(self) -> Cell:
        m, matrix, name = self.model, self.matrix, self._name("ranking", "responses")
        tuned = self._name("tune", f"{SIBLING}-s{matrix.seeds[0]}")
        command = [*PROGRAM, "response-ranking", "base", f"{folder(tuned)}/model", "--dtype", m.dtype]
        command += [] if m.base == "embedded" else ["--base", m.base]
        command += ["--pairs", matrix.pairs, "--out", folder(name)]
        files = tuple(f"{folder(name)}/ranking.{kind}" for kind in ("json", "md", "svg"))
        gpus = min(m.gpus, 1)
        work = Work(parameters=m.parameters, gpus=gpus, answers=2 * 1000, new_tokens=64)
        return Cell(name, "ranking", (tuned,), tuple(command), files, gpus=gpus, costs=costs(work))


OPPONENT = "opponent"
"""The cell of the answers that a sweep's models are judged against."""


def _opponent(model: str, instructions: str) -> Cell:
    command = [*LM_EVAL, "--model", "openai-chat-completions", "--model_args", f"model={model}"]
    command += ["--apply_chat_template", *answering(OPPONENT, instructions, "tulu", 512)]
    return Cell(OPPONENT, "opponent", (), tuple(command), answers_of(OPPONENT), api=True)


def answering(cell: str, instructions: str, template: str, max_new_tokens: int) -> list[str]:
    """The words after the model with which lm_eval answers, and does not judge, into a cell's folder."""
    words = ["--tasks", "alpaca_winrate", "--predict_only", "--output_path", f"{folder(cell)}/lm_eval"]
    words += ["--gen_kwargs", f"max_gen_toks={max_new_tokens}", "--metadata", f"instructions={instructions}"]
    return [*words, f"template={template}", "judge=longest", "judge_attempts=none", f"save={folder(cell)}"]


def answers_of(cell: str) -> tuple[str, str]:
    """The files of a cell's answers."""
    return f"{folder(cell)}/outputs.json", f"{folder(cell)}/outputs.meta.json"


def sibling_of(recipe: str) -> str:
    """The recipe that a tuned system is judged against: with the same tags, where it has tags of its own."""
    return f"{SIBLING}_ab_tags" if recipe.endswith("_ab_tags") else SIBLING


def kind_of(recipe: str) -> str:
    """What a model tuned by a recipe is on a board: instruction, response or single_task."""
    return next((kind for kind in ("instruction", "response") if recipe.startswith(kind)), "single_task")


def _data(recipe: Recipe) -> str:
    """What a submission says of its training data."""
    data = recipe.data
    licence = data.licence.replace(",", "")
    return f"{data.repo}={licence},https://huggingface.co/datasets/{data.repo}" if data.repo else f"local={licence}"
