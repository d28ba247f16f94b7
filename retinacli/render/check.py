"""Shows a data check: splits, findings and advice."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.text import Text

from retinacli.console import print_table, row, table
from retinanet.messages import printable

if TYPE_CHECKING:
    from retinanet.dataset_analysis.check import Report
    from retinanet.dataset_analysis.findings import Finding

STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}


def show_check(report: "Report", as_json: bool) -> None:
    if as_json:
        print(json.dumps({**asdict(report), "errors": report.count("error"), "warnings": report.count("warning")}))
        return
    columns = ("images", "objects", "crowds", "empty images", "dropped boxes", "classes with objects")
    made = table("Splits", "split", *columns)
    for name, s in report.splits.items():
        present = f"{sum(count > 0 for count in s.classes.values())} of {len(s.classes)}"
        row(made, name, s.images, s.objects, s.crowds, s.empty_images, s.dropped_boxes, present)
    if report.splits:
        print_table(made)
    findings = table("Findings", "level", "finding", "split", "details and what to do", text_columns=4)
    for finding in report.findings:
        level = Text(finding.level, style=STYLES[finding.level])
        findings.add_row(level, finding.code, finding.split or "both", _details(finding))
        findings.add_section()
    if report.findings:
        print_table(findings)
    print(_total(report))


def _details(finding: "Finding") -> Text:
    lines = [finding.text, *_places(finding), f"-> {finding.advice}"]
    return Text("\n".join(map(printable, lines)))


def _places(finding: "Finding") -> list[str]:
    """Such as ["annotation 3153, 3197 (a.jpg, b.jpg)"], or ["image 7, 9, ... of 12"] if not all are listed."""
    if not finding.ids:
        return []
    ids = ", ".join(map(str, finding.ids)) + (f", ... of {finding.count:,}" if finding.count > len(finding.ids) else "")
    return [f"{finding.of} {ids}" + (f" ({', '.join(finding.files)})" if finding.files else "")]


def _total(report: "Report") -> str:
    errors, warnings = report.count("error"), report.count("warning")
    counts = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    return f"{counts}: correct the errors before training" if errors else f"{counts}: the data can be trained on"
