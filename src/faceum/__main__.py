"""`python -m faceum`: the command line."""

from faceum.cli.app import main

main()
