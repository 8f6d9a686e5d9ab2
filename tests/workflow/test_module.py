"""The workflow as a module of another one."""

import pytest
import yaml
from support import ROOT, Copy

OTHER = """
module faultline:
    snakefile:
        {snakefile!r}
    config:
        {config!r}


use rule * from faultline as faultline_*


rule summary:
    default_target: True
    input:
        "results/tables/history.tsv",
    output:
        "summary.txt",
    shell:
        "wc -l < {{input}} > {{output}}"
"""
CONFIG = """
datasets:
  digits: {train: 100, validation: 50, test: 60}
networks: [small_conv]
trainings:
  standard: {batch_size: 50, epochs: [1]}
seeds: [0]
attacks:
  fgsm: {method: fgsm, eps: 0.1}
retraining: {from_epochs: []}
"""


@pytest.mark.slow
def test_another_workflow_uses_it_as_a_module(tmp_path):
    text = OTHER.format(snakefile=str(ROOT / "Snakefile"), config=yaml.safe_load(CONFIG))
    (tmp_path / "Snakefile").write_text(text, encoding="utf-8")
    other = Copy(tmp_path)
    other.run("--cores", "1")
    assert (tmp_path / "summary.txt").read_text(encoding="utf-8").strip() == "2"
    assert "Nothing to be done" in other.run("--cores", "1")


def test_a_mistake_in_its_config_is_told_in_one_line(tmp_path):
    config = yaml.safe_load(CONFIG) | {"networks": ["small_cone"]}
    text = OTHER.format(snakefile=str(ROOT / "Snakefile"), config=config)
    (tmp_path / "Snakefile").write_text(text, encoding="utf-8")
    done = Copy(tmp_path).snakemake("-n")
    assert done.returncode != 0 and "did you mean 'small_conv'?" in done.stdout
    assert "Traceback" not in done.stdout
