import pandas as pd

from faultline.report.comparison import compared


def test_policies_are_told_apart_by_their_intervals_alone():
    rows = pd.DataFrame(
        [
            ["selective", "all seeds", None, 2, 0.02, 0.01, 0.03, 0.015, 0.025],
            ["selective", "seed", 0, 1, 0.01, 0.005, 0.015, None, None],
            ["selective", "seed", 1, 1, 0.03, 0.025, 0.035, None, None],
        ],
        columns=[
            *("policy", "level", "seed", "seeds", "difference", "ci_low", "ci_high"),
            *("image_ci_low", "image_ci_high"),
        ],
    ).assign(accuracy=0.52, reference_accuracy=0.5)

    def say(rows, confidence):
        words = {"reference": "regular", "control": "random freezing"}
        return compared(rows, policy="selective", confidence=confidence, **words)

    assert "+2.00 points [+1.00, +3.00] over 2 seeds, better than regular." in say(rows, 0.95)
    worse = rows.assign(difference=-rows["difference"], ci_low=-0.03, ci_high=-0.01)
    worse = worse.assign(image_ci_low=-0.025, image_ci_high=-0.015)
    assert "worse than regular" in say(worse, 0.95)
    unsure = rows.assign(image_ci_low=-0.001)  # certain over seeds, not over images
    assert "not distinguishable from regular" in say(unsure, 0.95)
    flat = rows.assign(ci_low=0.02, ci_high=0.02)  # seeds agree by chance: their t has no width
    assert "[+1.50, +2.50] over images (the same in 2 seeds)" in say(flat, 0.95)
