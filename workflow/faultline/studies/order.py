"""What the report shows of each study, and in which order."""

from faultline.report.render import Tables, render
from faultline.studies import (
    accuracy,
    fragile,
    own,
    perturbations,
    retraining,
    robustness,
    sustainability,
    synaptic,
)
from faultline.studies.accuracy import section as of_accuracy
from faultline.studies.fragile import section as of_fragile
from faultline.studies.overview import what_was_run
from faultline.studies.own import section as of_own
from faultline.studies.perturbations import section as of_perturbations
from faultline.studies.retraining import section as of_retraining
from faultline.studies.robustness import section as of_robustness
from faultline.studies.sustainability import section as of_sustainability
from faultline.studies.synaptic import section as of_synaptic

SECTIONS = (
    of_synaptic.class_maps,
    of_robustness.section,
    of_accuracy.under_attack,
    of_synaptic.threshold_curves,
    of_synaptic.score_maps,
    of_synaptic.filter_rankings,
    of_fragile.targeting,
    of_fragile.overlap,
    of_fragile.remedy,
    of_synaptic.band_splits,
    of_perturbations.section,
    of_sustainability.section,
    of_own.section,
    of_retraining.section,
    of_synaptic.invariance,
    of_accuracy.training,
    of_accuracy.self_checks,
)
FINDINGS = (
    of_accuracy.accuracy_findings,
    of_robustness.findings,
    of_synaptic.layer_findings,
    of_synaptic.decided_findings,
    of_fragile.findings,
    of_perturbations.findings,
    of_sustainability.findings,
    of_own.findings,
    of_retraining.findings,
    of_accuracy.check_findings,
)
TABLES = {
    **accuracy.TABLES,
    **synaptic.TABLES,
    **retraining.TABLES,
    **fragile.TABLES,
    **perturbations.TABLES,
    **sustainability.TABLES,
    **robustness.TABLES,
    **own.TABLES,
}
"""Table -> what it holds."""


def report(tables: Tables, *, config: dict, versions: dict[str, str], template: str) -> str:
    """The page of a run as HTML; see `report.render.render`."""
    return render(
        tables,
        what=what_was_run,
        findings=FINDINGS,
        sections=SECTIONS,
        described=TABLES,
        config=config,
        versions=versions,
        template=template,
    )
