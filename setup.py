"""Packages and data files are found, not listed: a new folder in a room needs no change here. See pyproject.toml."""

from setuptools import find_packages, setup

ROOMS = ("harness", "tasks", "model_wrappers", "leaderboards")
DATA = ("yaml", "jinja", "json", "jsonl", "md", "csv", "html", "css", "js", "svg", "smk")
# What `implicit-if leaderboard` makes from submissions is published, not installed.
GENERATED = (
    *("submissions/*", "replications/*", "answers/*", "figures/*", "page.html", "README.md"),
    *(f"{table}.{suffix}" for table in ("leaderboard", "rules") for suffix in ("md", "csv", "json")),
)

setup(
    packages=[
        "implicit_if",
        *(f"implicit_if.{room}" for room in ROOMS),
        *(f"implicit_if.{room}.{name}" for room in ROOMS for name in find_packages(room, exclude=["submissions*"])),
    ],
    package_dir={"implicit_if": "src/implicit_if", **{f"implicit_if.{room}": room for room in ROOMS}},
    package_data={
        "implicit_if": ["py.typed"],
        **{f"implicit_if.{room}": [f"**/*.{suffix}" for suffix in DATA] for room in ROOMS},
    },
    exclude_package_data={"implicit_if.leaderboards": list(GENERATED)},
    include_package_data=False,
)
