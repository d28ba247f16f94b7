"""Write docs/commands.md from the commands' help, and docs/config.md from the config's schema: `make docs`.

A test compares both files with what this script writes, so that no option and no key stays undocumented.
"""

from pathlib import Path

import typer
from typer.testing import CliRunner

from retinacli.app import app

DOCS = Path(__file__).parent
WIDTH = 88  # columns of a help block

GENERATED = "<!-- Generated: `make docs` writes this page anew. -->"

COMMANDS = """\
{generated}

# Commands

{summary}

Results go to stdout; progress and messages go to stderr. With `--json`, stdout holds one JSON document and nothing
else. `null` in place of a metric means that it has no value, since no object has the class or the size.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a data set, a config, a checkpoint or a run is wrong; one line on stderr says what, where, and what was expected |
| 2 | the command line is wrong: an unknown option, or two that exclude each other |
| 3 | a check failed: the anchors cover less than `--min-coverage`; a metric differs from that of `--reference`; a \
class cannot reach the `--target-precision` of `eval`; or an export does not detect what the checkpoint detects |
| 130, 143 | interrupted by Ctrl-C or by SIGTERM |
| 141 | the program that reads the output ended first, such as `head` in a pipe |

`retina --version` shows the version. `retina --help` lists the commands, and `retina COMMAND --help` the options of
one.

A WEIGHTS argument accepts a checkpoint (`.safetensors`), the folder of a run (its best checkpoint is used), or the
name of published weights: `coco` or `coco_v2`. `eval`, `predict` and `bench` also accept an exported model (`.onnx` or
`.xml`); `eval` accepts a results file (`.json`), too, described in [evaluation.md](evaluation.md). A CONFIG argument
accepts a YAML file, described in [config.md](config.md), or the name of a shipped example.

{sections}
"""

CONFIG = """\
A config is a YAML file with the sections `data`, `model`, `anchors`, `loss`, `train` and `detect`. A key that does not
exist is refused; the message names the nearest one that does.

Later sources override earlier ones: the defaults below, the preset, the YAML file, `--set KEY=VALUE`, the flags of
`retina train` such as `--lr`. With `train.init`, the sections `model` and `anchors` default to the checkpoint's.

```
retina train cells.yaml --set train.lr=0.005 --set data.short_side=640
```

`null` is YAML's word for "not set"; the last column says what is used instead. The source of a default stands at the
end of its meaning: the paper, Detectron (its authors' code), torchvision or detectron2.
"""

EXAMPLES = {
    "train": """\
retina train cells.yaml                                # writes runs/cells
retina train cells.yaml --resume                       # continues that run
retina train cells.yaml -o runs/lower --set train.lr=0.0005""",
    "eval": """\
retina eval runs/cells                                 # AP on the validation split
retina eval runs/cells --split test --report report    # a page with the errors: report/index.html
retina eval runs/cells runs/lower --compare            # what the second run gains
retina eval predictions.json --data cells.yaml         # the COCO results file of any other program""",
    "predict": """\
retina predict photos/ -w runs/cells --vis             # annotated copies in predictions/
retina predict 'photos/*.jpg' -w runs/cells --json""",
    "anchors": """\
retina anchors                                         # the paper's nine anchors of each level
retina anchors cells.yaml --optimize                   # anchors that cover your boxes better""",
    "loss-plot": """\
retina loss-plot --gamma 0 0.5 1 2 5                   # the paper's figure 1
retina loss-plot --cdf runs/cells                      # the paper's figure 4""",
    "ablate": """\
retina ablate cells.yaml --table 1b --seeds 3          # the paper's table 1b on your data
retina ablate cells.yaml --table 2                     # RetinaNet against Faster R-CNN and SSD
retina ablate cells.yaml --table 2 --scale 400 600 800 # the same at several scales: the paper's figure 2""",
    "import": """\
retina import model_final.pkl -o r50.safetensors
retina import own.pth --classes cat,dog,hat            # your own weights, or --data cats.yaml""",
    "export": """\
retina export runs/cells --to openvino                 # writes cells.xml and cells.bin
retina export runs/cells --to onnx                     # writes cells.onnx""",
    "check": """\
retina check cells.yaml""",
    "init": """\
retina init cells                                      # writes cells.yaml for the data set in the folder cells""",
    "config": """\
retina config                                          # all keys
retina config train.lr                                 # one key: its default, bounds and source""",
    "bench": """\
retina bench runs/cells                                # milliseconds per image of each stage
retina bench --depth 50 101 --scale 400 600 800        # the paper's table 1e on this machine""",
}


def command_names() -> list[str]:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return group.list_commands(typer.Context(group))


def help_of(*command: str) -> str:
    done = CliRunner().invoke(app, [*command, "--help"], prog_name="retina", terminal_width=WIDTH)
    assert done.exit_code == 0, done.output
    return "\n".join(line.rstrip() for line in done.output.strip().splitlines())


def commands_page() -> str:
    """The text of docs/commands.md: each command with examples and its help."""
    names = command_names()
    summary = " · ".join(f"[{name}](#retina-{name})" for name in names)
    sections = (f"## retina {name}\n\n```\n{EXAMPLES[name]}\n```\n\n```text\n{help_of(name)}\n```" for name in names)
    return COMMANDS.format(generated=GENERATED, summary=summary, sections="\n\n".join(sections))


def config_page() -> str:
    """The text of docs/config.md: how a config is read, then each key."""
    from retinanet.config.reference import config_reference

    title, _, keys = config_reference().partition("\n")
    return f"{GENERATED}\n\n{title}\n\n{CONFIG}{keys}"


if __name__ == "__main__":
    for name, page in (("commands.md", commands_page), ("config.md", config_page)):
        (DOCS / name).write_text(page(), encoding="utf-8")
