"""How far one is ahead of another: against a slow count, and against draws of what could have been asked."""

import pytest
import torch

from models.training.lead import Lead, told_leads


def test_questions_of_one_thing_are_drawn_together() -> None:
    group = torch.tensor([0, 0, 0, 1, 1, 2])
    first, second = torch.tensor([1.0, 1, 1, 0, 1, 1]), torch.tensor([0.0, 0, 0, 0, 0, 1])
    lead = Lead.of("b", first, second, group)
    ahead = [1, 1, 1, 0, 1, 0]
    mean = sum(ahead) / 6
    sums = [3 - 3 * mean, 1 - 2 * mean, 0 - mean]
    assert (lead.by, lead.error) == pytest.approx((mean, (sum(one * one for one in sums) * 3 / 2) ** 0.5 / 6))
    alone = Lead.of("b", first, second)
    assert alone.error == pytest.approx(float((first - second).std() / 6**0.5))
    assert lead.error > alone.error, "three pictures of one thing say less than of three"


def test_the_error_is_what_other_draws_differ_by() -> None:
    dice = torch.Generator().manual_seed(0)

    def draw() -> Lead:
        hard = torch.rand(50, 1, generator=dice).expand(50, 8)  # things differ: their pictures go wrong together
        first, second = ((torch.rand(50, 8, generator=dice) * 0.5 + hard > bar).float().flatten() for bar in (0.6, 0.7))
        return Lead.of("b", first, second, torch.arange(50).repeat_interleave(8))

    draws = [draw() for _ in range(400)]
    spread = torch.tensor([one.by for one in draws]).std()
    assert sum(one.error for one in draws) / 400 == pytest.approx(float(spread), rel=0.15)


@pytest.mark.parametrize("things", [2, 3, 5, 8, 40])
def test_equals_are_told_apart_in_one_of_twenty_draws_however_few_things_are_drawn(things: int) -> None:
    """Of two things the spread is hardly known: by 2 standard errors equals were apart in 3 of 10 draws."""
    dice = torch.Generator().manual_seed(things)
    group = torch.arange(things).repeat_interleave(4)
    ahead = torch.randn(2000, things, generator=dice).repeat_interleave(4, dim=1)
    apart = sum(not Lead.of("b", one, torch.zeros(len(group)), group).within_noise for one in ahead)
    assert 0.03 < apart / 2000 < 0.075


def test_one_image_of_many_is_within_noise_and_said_so() -> None:
    first, second = torch.zeros(400), torch.zeros(400)
    first[:30], second[1:30] = 1, 1
    one = Lead.of("copy", 100 * first, 100 * second)
    assert one.within_noise and "ahead of copy by 0.2 ± 0.2, within noise" in told_leads([one], ".1f")
    clear = Lead.of("frozen", 100 * first, torch.zeros(400))
    assert not clear.within_noise and told_leads([clear], ".1f") == "ahead of frozen by 7.5 ± 1.3"
    assert told_leads([Lead("frozen", -3.0, 0.5)], ".1f") == "behind frozen by 3.0 ± 0.5"
