"""Submissions, their verification, and the boards made from them.

submission/     a submission's folder: its format, read without trust
verification/   whether its numbers follow from its answers and verdicts; verdicts judged again, copies, names
submitting/     from a run's files to a submission's
boards/         rows, tables and figures
site/           the page
runs/           any runs as one table or figure for a paper, or as a page to read
exports         submissions in other tools' forms
rerun           generates a submission's answers again
commands/       `submit`, `verify`, `rerun`, `audit-verdicts`, `export`, `leaderboard`, `table`, `figure`, `view`
"""
