"""Shows a data check: splits, findings and advice."""

from dataclasses import asdict

from rich.text import Text

from retinacli.console import print_json, print_table
from retinanet.dataset_analysis.check import Report
from retinanet.dataset_analysis.findings import Finding
from retinanet.messages import printable

STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}


def show_check(report: Report, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(report), "errors": report.count("error"), "warnings": report.count("warning")})
        return
    columns = ("split", "images", "objects", "crowds", "empty images", "dropped boxes", "classes with objects")
    splits = []
    for name, s in report.splits.items():
        present = f"{sum(count > 0 for count in s.classes.values())} of {len(s.classes)}"
        splits.append((name, s.images, s.objects, s.crowds, s.empty_images, s.dropped_boxes, present))
    if splits:
        print_table("Splits", columns, splits)
    if report.findings:
        findings = ([_cells(finding)] for finding in report.findings)
        print_table("Findings", ("level", "finding", "split", "details and what to do"), *findings, text_columns=4)
    errors, warnings = report.count("error"), report.count("warning")
    counts = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    print(f"{counts}: {'correct the errors before training' if errors else 'the data can be trained on'}")


def _cells(finding: Finding) -> tuple[object, ...]:
    lines = [finding.text, *_places(finding), f"-> {finding.advice}"]
    level = Text(finding.level, style=STYLES[finding.level])
    return (level, finding.code, finding.split or "both", Text("\n".join(map(printable, lines))))


def _places(finding: Finding) -> list[str]:
    """Such as ["annotation 3153, 3197 (a.jpg, b.jpg)"], or ["image 7, 9, ... of 12"] if not all are listed."""
    if not finding.ids:
        return []
    ids = ", ".join(map(str, finding.ids)) + (f", ... of {finding.count:,}" if finding.count > len(finding.ids) else "")
    return [f"{finding.of} {ids}" + (f" ({', '.join(finding.files)})" if finding.files else "")]
