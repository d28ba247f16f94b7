"""Several values after one option."""

import pytest

from retinacli.many_values import spread


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--gamma 0 0.5 1", "--gamma 0 --gamma 0.5 --gamma 1"),
        ("--gamma 0 --gamma 2", "--gamma 0 --gamma 2"),
        ("--gamma=2", "--gamma=2"),
        ("--gamma=2 5 --json", "--gamma=2 --gamma 5 --json"),
        ("--gamma 0 2 -o x.pdf --json", "--gamma 0 --gamma 2 -o x.pdf --json"),
        ("-o x.pdf y --gamma 1 2", "-o x.pdf y --gamma 1 --gamma 2"),
        ("--gamma 1 -2 -1e-3 -x 4", "--gamma 1 --gamma -2 --gamma -1e-3 -x 4"),
        ("--gamma --json", "--gamma --json"),
        ("--gamma 1 2 -- 3 --gamma 4 5", "--gamma 1 --gamma 2 -- 3 --gamma 4 5"),
        ("a.yaml --table 1b 1d -g 0 1", "a.yaml --table 1b --table 1d -g 0 -g 1"),
        ("--set a=1 b.yaml", "--set a=1 b.yaml"),
        ("--set a.b=1 c=2 b.yaml d=3", "--set a.b=1 --set c=2 b.yaml d=3"),
        ("--set yolo-n=a.json yolo-s=b.json,5", "--set yolo-n=a.json --set yolo-s=b.json,5"),
        ("--set a=1 runs/a=1.yaml", "--set a=1 runs/a=1.yaml"),
        ("--set a --set b=[1,2] c={d:3}", "--set a --set b=[1,2] --set c={d:3}"),
        ("--set=a=1 b=2 --json", "--set=a=1 --set b=2 --json"),
        ("", ""),
    ],
)
def test_spread(line, expected):
    assert spread(line.split(), {"--gamma": False, "--table": False, "-g": False, "--set": True}) == expected.split()


def test_several_overrides_after_one_set(tiny, in_process):
    result = in_process("check", "--set", "data.short_side=64", "data.short_sid=32", tiny / "tiny.yaml", "--fast")
    assert result.code == 1 and "data.short_sid" in result.err and "did you mean" in result.err
    result = in_process("eval", "--set", "data.short_side=64", "data.workers=0", "nowhere")
    assert result.code == 1 and result.err.startswith("retina: nowhere: no such file")
