"""`python -m gmi` is the command `gmi`."""

from gmi.cli import command

command()
