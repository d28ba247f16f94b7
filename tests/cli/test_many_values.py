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
        ("", ""),
    ],
)
def test_spread(line, expected):
    assert spread(line.split(), {"--gamma", "--table", "-g"}) == expected.split()
