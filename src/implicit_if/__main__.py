"""`python -m implicit_if`: the `implicit-if` command."""

import sys

from implicit_if.harness.cli import main

sys.exit(main())
