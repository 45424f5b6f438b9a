"""Markers: whether a cell's artefact is whole, and made of what its inputs are now.

`cells/<cell>/done.json` is written last, atomically. It holds hashes of the artefact, of the inputs and of the command,
so that a changed input, another command or a file that was cut off are noticed.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.replicate.cells import Cell, folder
from implicit_if.harness.storage import read_json, sha256_file, sha256_json, write_json

KEPT = ("annotations.jsonl", "attempts.jsonl")
"""Verdicts: never removed, since they may have cost money; they are looked up by the content of what they judge."""
_SMALL = 4_000_000
"""Bytes up to which a file is hashed whenever its cell is looked at; a larger one when another cell is to read it."""
_STEMS = {
    "gsm": ("gsm8k_train_first1000", "gsm8k"),
    "mbpp": ("mbpp_train",),
    **dict.fromkeys(("instruction", "response"), ("lima_data", "lima")),
    **dict.fromkeys(("instruction_ab_tags", "response_ab_tags"), ("lima_data", "lima")),
    **dict.fromkeys(("response_no_rephrasing", "response_no_user_turn"), ("lima_data", "lima")),
}
"""Other names of a recipe's local file."""


class Folder:
    """The folder of a matrix: its cells, as they are on the disk now."""

    def __init__(self, path: Path, cells: Sequence[Cell], data: Path | None = None) -> None:
        """Looks at nothing yet.

        Args:
            path: The folder.
            cells: The plan.
            data: Folder of local data files, see `data_file`.
        """
        self.path, self.data = path, data
        self.cells = {cell.name: cell for cell in cells}
        self._found: dict[str, str | None] = {}
        self._hashes: dict[Path, str] = {}

    def marker(self, cell: str) -> Path:
        """The file of a cell's marker."""
        return self.path / folder(cell) / "done.json"

    def forget(self) -> None:
        """What was found is looked at again."""
        self._found.clear()

    def unfinished(self, name: str) -> str | None:
        """Why a cell has to run; None if it is whole and made of what its inputs are now."""
        if name not in self._found:
            self._found[name] = self._look(self.cells[name])
        return self._found[name]

    def _look(self, cell: Cell) -> str | None:
        for need in cell.needs:
            if self.unfinished(need) is not None:
                return f"waits for {need}"
        if (marker := self._read(cell.name)) is None:
            return "has not run yet"
        now, then = self.identity(cell), marker.get("identity", {})
        if changed := [key for key in {**then, **now} if then.get(key) != now.get(key)]:
            return f"is out of date: another {', '.join(changed)}"
        return marker.get("damaged") or (None if marker.get("removed") else self._damage(marker))

    def identity(self, cell: Cell) -> dict[str, Any]:
        """What the artefact depends on: the command, recipe, local data, the user's files, and each input's content."""
        found: dict[str, Any] = {"command": list(cell.command), "recipe": cell.recipe_sha256}
        if cell.recipe is not None:
            file = self.data_file(cell.recipe)
            found["data"] = None if file is None else self._sha256(file)
        if cell.withhold:
            found["withhold"] = True
        found |= {file: self._sha256(Path(file)) for file in cell.reads}
        for need in cell.needs:
            found[need] = (self._read(need) or {}).get("content")
        return found

    def damaged(self, name: str) -> str | None:
        """What of a whole cell's artefact is not what was written, every byte read; None if nothing."""
        marker = self._read(name)
        return "has no marker" if marker is None else self._damage(marker, deep=True)

    def note_damage(self, name: str, why: str) -> None:
        """Has a cell run again whose artefact looks whole until every byte is read."""
        write_json(self.marker(name), {**(self._read(name) or {}), "damaged": why})
        self.forget()

    def remove_models(self) -> list[str]:
        """Removes the tuned models that every cell which reads them has read; their cells count as whole.

        A model that is needed again, by a new cell or one that is out of date, is tuned again.

        Returns:
            The cells whose models were removed.
        """
        removed = []
        for name, cell in self.cells.items():
            readers = [other for other, own in self.cells.items() if name in own.needs]
            marker = self._read(name) or {}
            if cell.kind != "tune" or marker.get("removed") or any(map(self.unfinished, (name, *readers))):
                continue
            write_json(self.marker(name), {**marker, "removed": True})
            for artefact in cell.artefacts:
                shutil.rmtree(self.path / artefact)
            removed.append(name)
        self.forget()
        return removed

    def _damage(self, marker: Mapping[str, Any], deep: bool = False) -> str | None:
        for name, (size, sha256) in marker.get("files", {}).items():
            file = self.path / name
            if not file.is_file() or file.stat().st_size != size:
                return f"is damaged: {name} is {'missing' if not file.is_file() else 'of another size'}"
            if (deep or size < _SMALL) and sha256_file(file) != sha256:
                return f"is damaged: {name} was changed"
        return None

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.marker(name)
        if not path.is_file():
            return None
        try:
            value = read_json(path, "a cell's marker")
        except UserError:
            return {}
        return value if isinstance(value, dict) else {}

    def begin(self, cell: Cell) -> None:
        """Removes what an earlier run with other inputs left; what one with the same left is continued.

        A damaged artefact is removed, too: commands take what looks finished for finished.
        """
        marker, begun = self._read(cell.name), self.path / folder(cell.name) / "begun.json"
        identity = self.identity(cell)
        if marker is not None or (begun.is_file() and not _holds(begun, identity)):
            self._clear(cell, marker or {})
        write_json(begun, identity)

    def _clear(self, cell: Cell, marker: Mapping[str, Any]) -> None:
        self.marker(cell.name).unlink(missing_ok=True)
        own = self.path / folder(cell.name)
        for name in KEPT:  # a changed file of verdicts is no longer what was written
            size_and_hash = marker.get("files", {}).get(f"{folder(cell.name)}/{name}")
            if (own / name).is_file() and size_and_hash and sha256_file(own / name) != size_and_hash[1]:
                (own / name).replace(own / f"{name}.damaged")
        for path in (*own.glob("*"), *(self.path / name for name in cell.artefacts)):
            if path.name in KEPT or path.suffix in (".damaged", ".lock"):
                continue
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)

    def finish(self, cell: Cell) -> None:
        """Writes the marker, last of all, and removes the cell's scratch.

        Raises:
            UserError: If an artefact is not there.
        """
        files = {}
        for name in cell.artefacts:
            path = self.path / name
            inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            if not inside or not inside[0].is_file():
                raise UserError(f"{cell.name}: ended without {path}. Its messages stand above; run it again.")
            for file in inside:
                files[file.relative_to(self.path).as_posix()] = [file.stat().st_size, sha256_file(file)]
        content = {"cell": cell.name, "identity": self.identity(cell), "content": sha256_json(files), "files": files}
        write_json(self.marker(cell.name), content)
        for path in self.path.glob(cell.scratch) if cell.scratch else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.forget()

    def data_file(self, recipe: str) -> Path | None:
        """The local file of a recipe's data in the data folder or one of its folders; None: it comes from the hub.

        It is called as the recipe, or as the data set is (`lima.jsonl`, `gsm8k.jsonl`, ...).
        """
        if self.data is None:
            return None
        for stem in (recipe, *_STEMS.get(recipe, ())):
            for suffix in ("jsonl", "json", "csv", "parquet", "txt"):
                for pattern in (f"{stem}.{suffix}", f"*/{stem}.{suffix}"):
                    if found := sorted(self.data.glob(pattern)):
                        return found[0].resolve()
        return None

    def rows(self, recipe: str) -> str:
        """A recipe's data as analyses take them: its name, with the local file if there is one."""
        file = self.data_file(recipe)
        return recipe if file is None else f"{recipe}={file}"

    def words(self, cell: Cell) -> list[str]:
        """A cell's command with the number of epochs and the data file that were open in the plan."""
        words: list[str] = []
        for word in cell.command:
            if match := re.fullmatch(r"\{data of (\S+)\}", word):
                file = self.data_file(match[1])
                words = words[:-1] if file is None else [*words, str(file)]
            elif match := re.fullmatch(r"\{rows of (\S+)\}", word):
                words.append(self.rows(match[1]))
            elif match := re.fullmatch(r"\{source of (\S+?)\|(.*)\}", word):
                file = self.data_file(match[1])
                words.append(match[2] if file is None else f"local file {file.name}")
            else:
                words.append(re.sub(r"\{epochs of (\S+)\}", lambda m: self._epochs(m[1]), word))
        return words

    def _epochs(self, cell: str) -> str:
        path = self.path / self.cells[cell].artefacts[0]
        try:
            return str(int(json.loads(path.read_text(encoding="utf-8"))["chosen_epochs"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: holds no number of epochs ({error}). Run {cell} again.") from error

    def _sha256(self, file: Path) -> str:
        if file not in self._hashes:
            self._hashes[file] = sha256_file(file)
        return self._hashes[file]


def _holds(path: Path, value: Any) -> bool:
    try:
        return bool(read_json(path, "what a cell began with") == value)
    except UserError:
        return False
