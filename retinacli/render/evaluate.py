"""What `retina eval` shows."""

from typing import TYPE_CHECKING, Any

from retinacli import console as render

if TYPE_CHECKING:
    from retinanet.evaluation.evaluate import Evaluation
    from retinanet.evaluation.missed_objects import MissedObjects


def document(evaluation: "Evaluation") -> dict[str, Any]:
    shown = render.evaluation_document(evaluation)
    if evaluation.missed_objects is not None:
        missed_objects = evaluation.missed_objects
        shown["funnel"] = {
            "objects": missed_objects.objects,
            "missed": missed_objects.missed,
            "stages": [vars(at) for at in missed_objects.by_stage],
            "worst_images": [vars(image) for image in missed_objects.worst],
        }
    if evaluation.reference is not None:
        shown["reference"] = {"equal": not differing(evaluation), "metrics": evaluation.reference}
    return shown


def tables(evaluation: "Evaluation") -> None:
    render.evaluation_tables(evaluation)
    if evaluation.missed_objects is not None:
        _missed_objects_tables(evaluation.missed_objects, evaluation.metrics["AP50"])
    if evaluation.reference is not None:
        if differing(evaluation):
            _difference_table(evaluation, evaluation.reference)
        else:
            print(f"pycocotools: equal in all {len(evaluation.reference)} numbers")


def differing(evaluation: "Evaluation") -> list[str]:
    """The metrics that are not pycocotools' to the last bit; none if these were not asked for."""
    reference = evaluation.reference or {}
    return [name for name, theirs in reference.items() if evaluation.metrics[name] != theirs]


def _missed_objects_tables(missed_objects: "MissedObjects", ap50: float) -> None:
    from retinanet.evaluation.missed_objects import STAGES

    title = (
        f"Missed objects: {missed_objects.missed} of {missed_objects.objects}; AP50 is {ap50:.4f}, "
        "and would be AP50+ if the objects of a row were detected"
    )
    made = render.table(title, "stage", "", "missed", "small", "medium", "large", "AP50+", text_columns=2)
    for at in missed_objects.by_stage:
        counts = (at.missed, at.small, at.medium, at.large)
        render.row(made, at.stage, STAGES[at.stage], *counts, f"{at.AP50:.4f}" if at.missed else "")
    made.add_section()
    sums = [sum(getattr(at, name) for at in missed_objects.by_stage) for name in ("missed", "small", "medium", "large")]
    render.row(made, "in all", "", *sums, "")
    render.print_table(made)
    if missed_objects.worst:
        images = render.table(
            "Images with the most missed objects", "image", "file", "missed", "objects", text_columns=2
        )
        for image in missed_objects.worst:
            render.row(images, image.image_id, image.file, image.missed, image.objects)
        render.print_table(images)


def _difference_table(evaluation: "Evaluation", reference: dict[str, float]) -> None:
    made = render.table("Numbers that differ from pycocotools'", "metric", "retina", "pycocotools")
    for name in differing(evaluation):
        render.row(made, name, repr(evaluation.metrics[name]), repr(reference[name]))
    render.print_table(made)
