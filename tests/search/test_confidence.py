"""The lower bound that finalists are ranked by: Student's t as the tables have it, and a bound worked out by hand."""

import pytest

from search.confidence import lower_bound, t_quantile


@pytest.mark.parametrize(
    ("level", "degrees", "t"),
    [
        (0.95, 1, 6.313751515),
        (0.95, 2, 2.919985580),
        (0.95, 3, 2.353363435),
        (0.95, 4, 2.131846786),
        (0.95, 8, 1.859548038),
        (0.95, 9, 1.833112933),
        (0.95, 29, 1.699127027),
        (0.95, 100, 1.660234326),
        (0.975, 5, 2.570581836),
        (0.995, 10, 3.169272673),
        (0.5, 7, 0.0),
    ],
)
def test_quantiles_are_those_of_the_tables(level: float, degrees: int, t: float) -> None:
    assert t_quantile(level, degrees) == pytest.approx(t, abs=1e-9, rel=1e-9)


def test_the_bound_is_as_worked_out_by_hand() -> None:
    # Mean 0.82, deviation 0.02, three values: 0.82 - 2.919986 x 0.02 / 1.7320508.
    assert lower_bound([0.80, 0.84, 0.82]) == pytest.approx(0.786283, abs=1e-6)
    assert lower_bound([0.7, 0.7]) == pytest.approx(0.7)
    assert lower_bound([0.7, 0.8]) < lower_bound([0.7, 0.8, 0.7, 0.8]), "more values narrow it"
