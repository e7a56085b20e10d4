"""What was given on the command line, to be said again."""

from __future__ import annotations

from collections.abc import Collection

import typer


def given_words(context: typer.Context, *, without: Collection[str] = ()) -> list[str]:
    """Return the options that were given, as words of a command.

    Parameters
    ----------
    context
        Of the command.
    without
        Names of parameters to leave out.
    """
    words = []
    for option in context.command.params:
        name = str(option.name)
        source = context.get_parameter_source(name)
        if option.param_type_name != "option" or name in without or source is None or source.name != "COMMANDLINE":
            continue
        given = context.params[name]
        if given is True:
            words.append(option.opts[0])
        else:
            for value in given if isinstance(given, list | tuple) else [given]:
                words += [option.opts[0], _word(name, value)]
    return words


def _word(name: str, value: object) -> str:
    """Return a value as a word; an address without its password, which is for nobody's screen."""
    if name == "storage":
        from dse.storage.database import address_of, shown

        return shown(address_of(str(value)))
    return str(value)
