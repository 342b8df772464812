import math

import pytest
import torch

from gmn_encoder.embeddings.neighbours import nearest

PLANE = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])  # angles 0, 37, 90, 180 degrees


def test_nearest_in_order_and_without_itself():
    cosines, places = nearest(PLANE[:1], PLANE, 3, chunk_size=2)
    assert places.tolist() == [[0, 1, 2]] and cosines[0].tolist() == pytest.approx([1.0, 0.8, 0.0])
    assert nearest(PLANE, PLANE, 9, exclude=range(4), chunk_size=3)[1][0].tolist()[:3] == [1, 2, 3]
    copies = torch.ones(7, 3)
    assert nearest(copies[:2], copies, 4, chunk_size=2)[1].tolist() == [[0, 1, 2, 3]] * 2


def test_rounding_does_not_order_equal_ones():
    # Parallel rows: the rounding of plain float64 products puts them in another order, such as 1, 2, 0, 3.
    row = torch.randn(16, generator=torch.Generator().manual_seed(0)).double()
    gallery = torch.stack([row * 3, row * 7, row * 11, row * 13])
    assert nearest(row[None], gallery, 4)[1].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (PLANE, 0, "k is 0; expected a whole number of neighbours"),
        (torch.zeros(0, 2), 1, r"queries are empty, shape \[0, 2\]"),
        (torch.ones(1, 3), 1, "queries are 3 wide and the gallery 2"),
        (torch.tensor([[1.0, math.nan]]), 1, "row 0 of the queries is not finite"),
        (torch.zeros(1, 2), 1, "row 0 of the queries is all zeros"),
    ],
)
def test_bad_input(queries, k, message):
    with pytest.raises(ValueError, match=message):
        nearest(queries, PLANE, k)
