"""Layer 6. `python -m faceum`: the command line."""

from faceum.cli import main

main()
