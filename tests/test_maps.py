"""Heatmaps: from a grid of scores to pixels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from adlib.maps import upsample_blur


@pytest.mark.parametrize(("grid", "size", "sigma"), [((7, 7), 56, 4.0), ((5, 9), (40, 33), 2.5), ((1, 3), 20, 4.0)])
def test_a_heatmap_equals_bilinear_then_a_gaussian_at_full_size(grid, size, sigma):
    scores = torch.rand(3, *grid, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(scores[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    expected = np.stack([gaussian_filter(one, sigma) for one in large.double().numpy()])
    np.testing.assert_allclose(upsample_blur(scores, size, sigma), expected, atol=1e-6)


def test_without_sigma_a_heatmap_is_plain_bilinear():
    scores = torch.rand(2, 6, 4, generator=torch.Generator().manual_seed(1))
    expected = F.interpolate(scores[:, None], size=(31, 50), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(upsample_blur(scores, (31, 50), sigma=0), expected)


def test_an_even_grid_stays_even_up_to_the_border():
    torch.testing.assert_close(upsample_blur(torch.full((1, 4, 4), 3.0), 32), torch.full((1, 32, 32), 3.0))


def test_a_heatmap_never_exceeds_its_grid():
    scores = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(2))
    assert upsample_blur(scores, 64).amax((1, 2)).le(scores.amax((1, 2)) + 1e-6).all()


def test_a_heatmap_is_the_same_to_the_bit_alone_and_in_a_batch():
    scores = torch.rand(9, 28, 28, generator=torch.Generator().manual_seed(3))
    alone = torch.cat([upsample_blur(one[None], 224) for one in scores])
    assert torch.equal(alone, upsample_blur(scores, 224))
