"""Entity recognition in the form of OVEN: entities that training showed, entities it did not, and one figure for both.

The names of all entities are the label set for either part. Shapes: S seeds, N images, C entities.
"""

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import Bootstrap
from evaluation.figures import Figure, Measure, Outcomes, share
from evaluation.refinement import SCORINGS


def harmonic_mean(seen: NDArray[np.floating], unseen: NDArray[np.floating]) -> NDArray[np.float64]:
    """2 / (1/seen + 1/unseen), elementwise; 0 where either is 0."""
    total = np.asarray(seen + unseen, dtype=np.float64)
    return np.divide(2 * seen * unseen, total, out=np.zeros_like(total), where=total > 0)


def entity_measures(
    outcomes: Outcomes,
    seen: NDArray[np.bool_],
    unseen: NDArray[np.bool_],
    bootstrap: Bootstrap,
    groups: NDArray[np.int64],
) -> dict[str, Measure]:
    """Accuracy on seen and unseen entities, and the harmonic mean of the two.

    Args:
        outcomes: (S, N) by scoring, 1.0 where the image's entity was named.
        seen, unseen: (N,) which images show an entity of the one or the other kind; at least one each.
        bootstrap: resamples seen and unseen images apart.
        groups: (N,) as in `Bootstrap.means`.
    """
    parts = {"seen": seen, "unseen": unseen}
    measures = {
        name: share({scoring: outcomes[scoring][:, part] for scoring in SCORINGS}, bootstrap, groups[part])
        for name, part in parts.items()
    }
    measures["harmonic mean"] = _harmonic(outcomes, seen, unseen, bootstrap, groups)
    return measures


def _harmonic(
    outcomes: Outcomes,
    seen: NDArray[np.bool_],
    unseen: NDArray[np.bool_],
    bootstrap: Bootstrap,
    groups: NDArray[np.int64],
) -> Measure:
    frozen = outcomes["none"]
    num_seeds = len(frozen)

    def means(both: NDArray[np.floating]) -> NDArray[np.float64]:
        """(R, 2S) resampled accuracies of seen and unseen to (R,) gains of the mean harmonic mean."""
        by_seed = harmonic_mean(both[:, : 2 * num_seeds], both[:, 2 * num_seeds :])  # (R, 2S)
        gains: NDArray[np.float64] = (by_seed[:, num_seeds:] - by_seed[:, :num_seeds]).mean(axis=1)
        return gains

    measure: Measure = {}
    for scoring in SCORINGS:
        refined = outcomes[scoring]
        values = harmonic_mean(refined[:, seen].mean(axis=1), refined[:, unseen].mean(axis=1)) * 100  # (S,)
        if scoring == "none":
            measure[scoring] = Figure(tuple(map(float, values)))
            continue
        joint = np.concatenate([frozen, refined])  # (2S, N): resampled together, so the comparison is paired
        # One for both parts: with the same draws, lucky seen images would come with lucky unseen ones.
        dice = bootstrap.dice()
        parts = [bootstrap.means(joint[:, part].T, groups[part], dice) for part in (seen, unseen)]
        drawn = np.concatenate(parts, axis=1)
        gain = float(values.mean()) - measure["none"].mean
        measure[scoring] = Figure(tuple(map(float, values)), gain, bootstrap.interval(means(drawn) * 100))
    return measure
