"""The workflow as a module of another one."""

import functools
import http.server
import threading

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


def test_a_module_from_afar_is_refused_in_one_line(tmp_path):
    """Snakemake would fetch the rules and the scripts, but not the library."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(ROOT))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        snakefile = f"http://127.0.0.1:{server.server_port}/Snakefile"
        text = OTHER.format(snakefile=snakefile, config=yaml.safe_load(CONFIG))
        (tmp_path / "Snakefile").write_text(text, encoding="utf-8")
        done = Copy(tmp_path).snakemake("-n", XDG_CACHE_HOME=str(tmp_path / "cache"))
        server.shutdown()
    assert done.returncode != 0 and "faultline runs from a clone" in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
