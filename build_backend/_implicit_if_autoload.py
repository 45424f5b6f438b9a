"""The start-up hook: lets lm_eval find implicit-if without a flag, and without importing anything early.

The build backend installs this code twice: inside the one line of `implicit_if.pth` (Python up to 3.17), which runs it
when lm_eval is imported, and as the module that `implicit_if.start` names (PEP 829, Python 3.15 and later). Every
Python process of the environment has it, so it imports nothing but `sys` at its start, and a broken or half-removed
implicit_if must not harm anyone's Python or lm_eval.
"""

import sys


class ImplicitIfFinder:
    """A meta-path finder for the two modules of lm_eval that we extend."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """Returns the module's own spec, extended to register us once it ran; None for any other module."""
        if name not in ("lm_eval.models", "lm_eval.tasks"):
            return None
        try:
            from implicit_if.harness.lm_eval_plugin import find_spec

            return find_spec(name, path, target)
        except Exception as error:
            print(
                f"implicit-if: not registered with lm_eval: {error!r}. "
                "Mend it: pip install --force-reinstall --no-deps implicit-if. Or remove it: pip uninstall implicit-if",
                file=sys.stderr,
            )
            # Once is enough. A new list: the import system is still walking the old one.
            sys.meta_path = [f for f in sys.meta_path if getattr(f, "__name__", "") != "ImplicitIfFinder"]
            return None


def install():
    """Puts the finder first, so that it sees an import before the finder that answers it; once, if called again."""
    if "ImplicitIfFinder" not in [getattr(f, "__name__", "") for f in sys.meta_path]:
        sys.meta_path.insert(0, ImplicitIfFinder)
