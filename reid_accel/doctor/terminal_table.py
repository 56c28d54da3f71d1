"""What was found, as a table in the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reid_accel.doctor.examine import Diagnosis
from reid_accel.doctor.findings import SEVERITIES, Severity, number_of
from reid_accel.reporting.console import WIDTH, print_tables
from reid_accel.terminal import visible

STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def print_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """Print counts, findings with their remedies, and advice, in at most 100 columns."""
    width = min(console.width, WIDTH)
    print_tables(console, diagnosis.facts.tables())
    console.print()
    if diagnosis.findings:
        console.print(_findings(diagnosis), width=width)
    for advice in diagnosis.advice:
        console.print(Text.assemble((visible(advice.flags), "bold"), f"  {visible(advice.reason)}"), width=width)
    console.print()
    console.print(Text(summary(diagnosis), style="bold"), width=width)


def summary(diagnosis: Diagnosis) -> str:
    """How many findings there are of each severity."""
    numbers = [number_of(diagnosis.number(severity), severity) for severity in SEVERITIES]
    if not diagnosis.findings:
        return "nothing found"
    return f"{', '.join(numbers)}" + ("; scores on this set would be wrong" if diagnosis.number("error") else "")


def _findings(diagnosis: Diagnosis) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, header_style="bold", show_lines=True)
    table.add_column("Found", no_wrap=True)
    table.add_column("What, and what to do", overflow="fold", ratio=1)
    for finding in diagnosis.findings:
        text = Text.assemble(visible(finding.sentence, kept=""), "\n", (visible(finding.remedy, kept=""), "dim"))
        table.add_row(Text(finding.severity, STYLES[finding.severity]), text)
    return table
