"""The entry of the program `eventbus`: it says so where another package or file has taken that name.

It is here since nothing inside `eventbus` runs then: a file `eventbus.py` on the path hides the package, and
a distribution such as `eventbus-lite` replaces files of it. Rejected: a third package for these few lines.
"""

import sys

__all__ = ["main"]


def main() -> int:
    """Run the program, or say in one line why it cannot run; return the exit code."""
    try:
        import eventbus  # noqa: PLC0415 - it may be anything

        is_ours = hasattr(eventbus, "__distribution__")
    except Exception:  # noqa: BLE001 - of a file that is not ours
        is_ours = False
    if not is_ours:
        print(_what_is_wrong(), file=sys.stderr)  # noqa: T201 - the program's output
        return 2
    from eventbus.cli import main as run  # noqa: PLC0415

    return run()


def _what_is_wrong() -> str:
    # Only here: `eventbus --version` should not wait for it.
    from importlib.metadata import entry_points, packages_distributions  # noqa: PLC0415
    from importlib.util import find_spec  # noqa: PLC0415

    spec = find_spec("eventbus")
    place = spec.origin if spec and spec.origin else "a folder without __init__.py"
    ours = {point.dist.name for point in entry_points(name="eventbus", group="console_scripts") if point.dist}
    others = {*packages_distributions().get("eventbus", ())} - ours
    package = " ".join(sorted(ours)) or "its package"
    removal = f"pip uninstall {' '.join(sorted(others))}" if others else "rename it or take it off PYTHONPATH"
    cure = f"{removal}, then: pip install --force-reinstall {package}"
    return f"error: `eventbus` is imported from {place!r}, which does not belong to {package}. hint: {cure}"
