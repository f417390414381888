"""Prints what makes a shell complete the verbs of `ganseg` and their flags.

python -m ganseg_jax.cli.completion bash|zsh|fish

    bash: echo 'eval "$(ganseg completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(ganseg completion zsh)"' >> ~/.zshrc, behind compinit
    fish: ganseg completion fish > ~/.config/fish/completions/ganseg.fish
"""

import importlib
import sys

from absl import flags

from ganseg_jax.cli import app, helping, places
from ganseg_jax.cli.verbs import verbs

SHELL = places.define_inputs("shell", "bash, zsh or fish.")


def flags_of(module: str) -> dict[str, str]:
    """Returns the flags of an entry point, as they are typed, with what they do."""
    before, known, path = set(flags.FLAGS), flags.FLAGS, f"ganseg_jax.cli.{module}"
    importlib.import_module(path)
    try:
        found = {}
        for name in helping.own_flags(before):
            typed = f"--{name}" if known[name].boolean else f"--{name}="
            found[typed] = " ".join((known[name].help or "").split())
        return found
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        del sys.modules[path]  # Imported again, it defines its flags again.


def script(shell: str) -> str:
    """Returns the completion of a shell."""
    # This module's own flag stands in the way of others of its name.
    table = {
        verb.name: flags_of(verb.module) if verb.module != "completion" else {}
        for verb in verbs().values()
    }
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](table)


def _bash(table: dict[str, dict[str, str]]) -> str:
    cases = [f"    {verb}) words={_quoted(' '.join(known))} ;;" for verb, known in table.items()]
    return "\n".join(
        [
            "_ganseg() {",
            '  local current="${COMP_WORDS[COMP_CWORD]}" words=""',
            "  # Readline takes = for a word of its own.",
            '  [[ "$current" == = ]] && current=""',
            '  if [[ "${COMP_WORDS[COMP_CWORD-1]}" == = || "$current" != -* ]]; then',
            "    if (( COMP_CWORD > 1 )); then",
            '      compopt -o filenames; COMPREPLY=( $(compgen -f -- "$current") ); return',
            "    fi",
            "  fi",
            "  if (( COMP_CWORD == 1 )); then",
            f"    words={_quoted(' '.join(table))}",
            '  else case "${COMP_WORDS[1]}" in',
            *cases,
            "  esac; fi",
            '  COMPREPLY=( $(compgen -W "$words" -- "$current") )',
            '  [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace',
            "}",
            "complete -F _ganseg ganseg",
        ]
    )


def _zsh(table: dict[str, dict[str, str]]) -> str:
    summaries = {verb.name: verb.summary for verb in verbs().values()}
    lines = ["#compdef ganseg", "_ganseg() {", "  local -a verbs", "  verbs=("]
    lines += [f"    {_quoted(f'{name}:{summaries[name]}')}" for name in table]
    lines += ["  )", "  if (( CURRENT == 2 )); then _describe verb verbs; return; fi"]
    lines += ['  case "$words[2]" in']
    for name, known in table.items():
        specs = [_quoted(f"{flag}[{_plain(doc)}]{_value(flag)}") for flag, doc in known.items()]
        lines.append(f"    {name}) _arguments {' '.join(specs)} '*:file:_files' ;;")
    return "\n".join([*lines, "  esac", "}", "compdef _ganseg ganseg"])


def _value(flag: str) -> str:
    return ":value:_files" if flag.endswith("=") else ""


def _fish(table: dict[str, dict[str, str]]) -> str:
    summaries = {verb.name: verb.summary for verb in verbs().values()}
    lines = []
    for name in table:
        lines.append(
            f"complete -c ganseg -n __fish_use_subcommand -f -a {name} -d "
            f"{_quoted(summaries[name])}"
        )
        for flag, doc in table[name].items():
            needs = " -r" if flag.endswith("=") else ""
            lines.append(
                f"complete -c ganseg -n '__fish_seen_subcommand_from {name}' "
                f"-l {flag.strip('-=')}{needs} -d {_quoted(_plain(doc))}"
            )
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Returns the first sentence, without what shells read otherwise."""
    first = text.partition(". ")[0].rstrip(".")
    return "".join(c for c in first if c not in "[]:'\\`$\"")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "") + "'"


def main() -> None:
    from ganseg_jax.config.setting import nearest
    from ganseg_jax.errors import UserError

    shells = ("bash", "zsh", "fish")
    if SHELL.value not in shells:
        raise UserError(
            f"{SHELL.value!r} is none of {', '.join(shells)}{nearest(SHELL.value, shells)}"
        )
    print(script(SHELL.value))


if __name__ == "__main__":
    app.run(main, uses_jax=False)
