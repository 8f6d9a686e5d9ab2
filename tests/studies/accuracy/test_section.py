import pandas as pd
from run_tables import make_config, make_tables, said

from faultline.attacks.checks import row
from faultline.base.columns import PLACE
from faultline.studies.accuracy.section import check_findings, self_checks


def test_a_warning_is_explained():
    checks = make_tables()["checks"]
    bad = pd.DataFrame([row("zero_gradients", False, "7 of 40 gradients are zero.")])
    bad = bad.assign(**checks.iloc[0][[*PLACE, "attack"]])
    tables, config = {"checks": pd.concat([checks, bad])}, make_config()
    assert "1 of 5 checks" in said(check_findings(tables, config))
    words = said(self_checks(tables, config))
    assert "1 of 5 checks" in words and "7 of 40 gradients" in words
    assert "the attack has no direction" in words
