"""`faceum doctor`: report what is installed, what would be used and what is missing."""

import typer

from faceum.cli.options import JsonOption, ModelOption
from faceum.cli.terminal import make_console, print_json


def doctor_command(json: JsonOption = False, model: ModelOption = "compact") -> None:
    """Report what is installed, used and missing.

    Exit code 1 if images cannot be analyzed.
    """
    from faceum.cli.findings import examine, is_healthy
    from faceum.cli.tables import findings_table

    findings = examine(model)
    if json:
        print_json([finding.to_dict() for finding in findings])
    else:
        make_console().print(findings_table(findings))
    if not is_healthy(findings):
        raise typer.Exit(1)
