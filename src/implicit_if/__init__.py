"""implicit-if: does a language model follow instructions although nobody taught it to?"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("implicit-if")
except PackageNotFoundError:  # a source tree on the path without an installed distribution
    __version__ = "0+unknown"
