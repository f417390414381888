"""Runs `ganseg`, the console script: a verb, then the flags of the entry point behind it.

Exit codes: 0 for finished, 2 for a mistake to put right, 130 after Ctrl-C, 143 after SIGTERM.
"""

import difflib
import runpy
import sys
from collections.abc import Sequence

from ganseg_jax import __version__, errors
from ganseg_jax.cli import helping
from ganseg_jax.cli.verbs import Verb, verbs


def overview() -> str:
    """Returns what `ganseg --help` shows."""
    known = verbs().values()
    lines = [f"  {verb.name:<11}{verb.summary}" for verb in known]
    return "\n".join(
        [
            "ganseg finds the parts of things in photos that nobody labelled.",
            "",
            "  ganseg check PHOTOS                     look at your photos",
            "  ganseg train PHOTOS --out=mymodel       learn from them",
            "  ganseg segment PHOTOS --model=mymodel   find the parts",
            "",
            "Verbs:",
            *lines,
            "",
            "`ganseg VERB --help` shows an example and the flags of a verb.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code if that does not end the process itself."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    known = verbs()
    if not given or given[0] in ("-h", "--help", "help"):
        if len(given) < 2:
            print(overview())
            return 0
        given = [given[1], "--help"]
    if given[0] in ("--version", "-V"):
        print(f"ganseg-jax {__version__}")
        return 0
    if given[0] not in known:
        near = difflib.get_close_matches(given[0], known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        print(f"error: there is no verb {given[0]!r}; {hint}", file=sys.stderr)
        return 2
    _run(known[given[0]], given[1:])
    return 0


def _run(verb: Verb, arguments: Sequence[str]) -> None:
    name = f"ganseg {verb.name}"
    helping.VERB.update(
        usage=f"{name} {verb.usage}".strip(), example=f"{name} {verb.example}".strip()
    )
    errors.speak_as({known.module: known.name for known in verbs().values()})
    sys.argv = [name, *arguments]
    # `-m ganseg_jax.cli.NAME` does the same.
    runpy.run_module(f"ganseg_jax.cli.{verb.module}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.exit(main())
