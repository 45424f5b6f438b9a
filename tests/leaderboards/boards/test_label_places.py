"""Names of points: beside them, apart from each other, and left out where nothing is free."""

from __future__ import annotations

from itertools import combinations

from implicit_if.leaderboards.boards.label_places import place_labels

PLOT = (0.0, 0.0, 400.0, 300.0)


def test_a_lone_name_stands_right_of_its_point_or_left_where_the_plot_ends() -> None:
    (right,), (left,) = place_labels([(100, 100)], [50], PLOT), place_labels([(390, 100)], [50], PLOT)
    assert right == (110, 100, None)
    assert left is not None
    assert left.x + 50 < 390


def test_names_of_close_points_do_not_overlap() -> None:
    spots = [(200.0 + 3 * i, 150.0 + i) for i in range(8)]
    places = place_labels(spots, [60.0] * 8, PLOT)
    assert None not in places
    for a, b in combinations([place for place in places if place], 2):
        assert abs(a.x - b.x) >= 60 or abs(a.y - b.y) >= 14


def test_what_must_not_be_covered_is_not_and_without_room_there_is_no_name() -> None:
    (place,) = place_labels([(100, 100)], [50], PLOT, obstacles=[(105, 90, 160, 110)])
    assert place is not None
    assert place.x + 50 <= 105 or place.y + 7 <= 90 or place.y - 7 >= 110
    assert place_labels([(100, 100)], [50], PLOT, obstacles=[PLOT]) == [None]
    assert place_labels([(100, 100)], [500], PLOT) == [None]
