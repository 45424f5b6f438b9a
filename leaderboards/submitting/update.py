"""Writes a submission anew as this version of the program does: current schema, scores by current estimators."""

from __future__ import annotations

from pathlib import Path

from implicit_if.harness.storage import json_bytes
from implicit_if.leaderboards.submission import read, write
from implicit_if.leaderboards.submission.read import SubmissionError, parse_json, parse_yaml, read_content
from implicit_if.leaderboards.submission.schema import SCHEMA_VERSION, Scores
from implicit_if.leaderboards.submission.scores import score_rows
from implicit_if.leaderboards.verification import checks, verify


def update(path: Path) -> list[str]:
    """Recomputes `scores.json` from the answers and verdicts, which must verify, and rewrites `metadata.yaml`.

    Nothing is written where that changes nothing. Otherwise `rerun.json`, which is about the old files, is dropped. A
    self-reported submission keeps its scores.

    Returns:
        What changed, a line each.

    Raises:
        SubmissionError: If anything but the scores does not verify.
    """
    content = read_content(path)
    metadata = verify.parse_metadata(content)
    findings = checks.Findings()
    verify.check_files(content, metadata, findings)
    rows = verify.parse_all_rows(content, findings)
    if rows and not findings:
        verify.check_rows(metadata, rows, findings)
    if findings:
        raise SubmissionError(path, findings.lines())
    files = {name: data for name, data in content.stored.items() if name not in (read.METADATA, read.RERUN)}
    changes = []
    if rows:
        _, scores = score_rows(metadata, *(rows[stem] for stem in read.DATA))
        files[read.SCORES] = json_bytes(scores.model_dump(mode="json"))
        old = Scores.model_validate(parse_json(content.files[read.SCORES])).scores
        for name, score in sorted(scores.scores.items()):
            before = old[name].render(3) if name in old else "absent"
            if before != score.render(3):
                changes.append(f"{name}: {before} is now {score.render(3)}")
    current = parse_yaml(content.files[read.METADATA]).get("schema_version") == SCHEMA_VERSION
    if current and files[read.SCORES] == content.files[read.SCORES]:
        return []
    if read.RERUN in content.files:
        changes.append(f"{read.RERUN}: dropped, it is about the old files; run implicit-if rerun again")
    write.write_files(path.absolute().parents[1], metadata, files, replace=True)
    return changes
