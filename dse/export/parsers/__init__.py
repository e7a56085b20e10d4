"""Lists of what engines' command lines take, by version, and a parser made of them.

``describe.py`` writes a list where the engine is installed; nothing here needs the engine.
"""

from dse.export.parsers.flags import COMMANDS, Flag, FlagList, flag_list

__all__ = ["COMMANDS", "Flag", "FlagList", "flag_list"]
