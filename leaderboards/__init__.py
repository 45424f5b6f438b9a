"""Submissions, their verification, and the boards made from them.

submission/     a submission's folder: format, reading, writing
verification/   whether its numbers follow from its answers and verdicts
submitting/     from a run's files to a submission
boards/         rows, tables and figures
site/           the page
exports         submissions in other tools' forms
rerun           makes a submission's answers anew
commands/       `submit`, `verify`, `rerun`, `export`, `leaderboard`
"""
