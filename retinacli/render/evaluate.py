"""What `retina eval` shows."""

from typing import TYPE_CHECKING, Any

from retinacli import console as render

if TYPE_CHECKING:
    from retinanet.evaluation.evaluate import Evaluation
    from retinanet.evaluation.missed_objects import Funnel


def document(evaluation: "Evaluation") -> dict[str, Any]:
    shown = render.evaluation_document(evaluation)
    if evaluation.funnel is not None:
        funnel = evaluation.funnel
        shown["funnel"] = {
            "objects": funnel.objects,
            "missed": funnel.missed,
            "stages": [vars(at) for at in funnel.lost],
            "worst_images": [vars(image) for image in funnel.worst],
        }
    if evaluation.reference is not None:
        shown["reference"] = {"equal": not differing(evaluation), "metrics": evaluation.reference}
    return shown


def tables(evaluation: "Evaluation") -> None:
    render.evaluation_tables(evaluation)
    if evaluation.funnel is not None:
        _funnel_tables(evaluation.funnel, evaluation.metrics["AP50"])
    if evaluation.reference is not None:
        if differing(evaluation):
            _difference_table(evaluation, evaluation.reference)
        else:
            print(f"pycocotools: equal in all {len(evaluation.reference)} numbers")


def differing(evaluation: "Evaluation") -> list[str]:
    """The metrics that are not pycocotools' to the last bit; none if these were not asked for."""
    reference = evaluation.reference or {}
    return [name for name, theirs in reference.items() if evaluation.metrics[name] != theirs]


def _funnel_tables(funnel: "Funnel", ap50: float) -> None:
    from retinanet.evaluation.missed_objects import STAGES

    title = f"Missed objects: {funnel.missed} of {funnel.objects}; AP50 is {ap50:.4f}, and AP50+ if they were found"
    made = render.table(title, "lost as", "", "missed", "small", "medium", "large", "AP50+", text_columns=2)
    for at in funnel.lost:
        counts = (at.missed, at.small, at.medium, at.large)
        render.row(made, at.stage, STAGES[at.stage], *counts, f"{at.AP50:.4f}" if at.missed else "")
    made.add_section()
    sums = [sum(getattr(at, name) for at in funnel.lost) for name in ("missed", "small", "medium", "large")]
    render.row(made, "in all", "", *sums, "")
    render.print_table(made)
    if funnel.worst:
        images = render.table(
            "Images with the most missed objects", "image", "file", "missed", "objects", text_columns=2
        )
        for image in funnel.worst:
            render.row(images, image.image_id, image.file, image.missed, image.objects)
        render.print_table(images)


def _difference_table(evaluation: "Evaluation", reference: dict[str, float]) -> None:
    made = render.table("Numbers that differ from pycocotools'", "metric", "retina", "pycocotools")
    for name in differing(evaluation):
        render.row(made, name, repr(evaluation.metrics[name]), repr(reference[name]))
    render.print_table(made)
