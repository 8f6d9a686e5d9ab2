"""The map and the picture of all methods on the page, in a browser where there is one."""

import functools
import html
import json
import re

import pandas as pd
import pytest
import torch
from browser import CHROMIUM, Browser
from map_tables import RUN, filter_rows, graph_rows, layer_rows, make_config, measures_of
from run_tables import said
from support import ROOT
from torch import nn

from faultline.ablation.graph import graph, weight_norms
from faultline.networks.registry import build
from faultline.report import render as render_module
from faultline.report.render import load_look, render
from faultline.studies.config import Config
from faultline.studies.map.drawing import fault_map
from faultline.studies.map.measures import layer_correlations
from faultline.studies.map.section import fault_maps, findings, methods

LOOK = load_look(ROOT / "workflow/faultline/report/report.html.j2")
EMPTY = pd.DataFrame()


class Tokens(nn.Module):
    """A layer of each kind but normalisations."""

    def __init__(self):
        super().__init__()
        self.patches, self.embed = nn.Conv2d(1, 4, 8, 8), nn.Embedding(16, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.lstm, self.fc = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.embed.weight
        x = x + self.attention(x, x, x)[0]
        return self.fc(self.lstm(x)[0].mean(1))


@functools.cache
def network(name: str):
    if name == "tokens":
        made = Tokens()
    else:
        made = build(name, shape=(1, 32, 32), classes=10, mean=0.5, std=0.3, seed=0)
    return made, graph(made, torch.rand(1, 1, 32, 32))[0]


def make_tables(name: str = "small_resnet", *, traced: bool = True, **settings) -> dict:
    made, nodes = network(name)
    names = [node.layer for node in nodes if node.layer]
    layers = layer_rows(names, **settings)
    classes = {("fragile", True): 3, ("robust", False): 5, ("antifragile", True): 1}
    few = filter_rows(names[0], classes)
    many = filter_rows(names[1], {("robust", True): 500, ("fragile", False): 12}, seed=1)
    tables = {"graph": graph_rows(made, nodes, traced=traced), "layers": layers}
    tables["mended_layers"] = EMPTY
    tables["filters"] = pd.concat([few, many], ignore_index=True)
    places = layers[["seed", "epoch"]].drop_duplicates()
    norms = weight_norms(made).assign(**RUN).merge(places[places["epoch"] == 3], how="cross")
    tables["layer_measures"] = measures_of(graph=tables["graph"], norms=norms, layers=layers)
    tables["layer_correlations"] = layer_correlations(tables["layer_measures"], confidence=0.95)
    return tables


def make_page(tables: dict, config: Config) -> str:
    return render(
        tables,
        what=lambda *_: "",
        verdict=lambda *_: None,
        findings=[(findings, "methods")],
        chapters={"Fault map": [fault_maps], "Appendix": [methods]},
        described=dict.fromkeys(tables, ""),
        config=config,
        resolved=config.text,
        title="",
        folder="",
        seeds=config.seeds,
        versions={},
        **LOOK,
    )


def shown(tables: dict, config: Config | None = None) -> str:
    (block,) = fault_maps(tables, config or make_config()).blocks
    return str(block.figures[0].svg)


def test_the_first_view_is_drawn_without_a_script():
    tables = make_tables()
    text = shown(tables)
    layers = tables["layers"]
    last = layers[(layers["score"] == "S_adv") & (layers["epoch"] == 3)]
    means = last.groupby("layer", sort=False)["value"].mean()
    titles = [html.unescape(t) for t in re.findall(r"<title>(.*?)</title>", text, flags=re.S)]
    for name, mean in means.items():
        (title,) = (t for t in titles if t.startswith(f"{name}: "))
        number = float(re.search(r"S_adv \(pgd\): (\S+)", title)[1].replace("\u2212", "-"))
        assert number == pytest.approx(mean, abs=6e-4)
        units = " neurons, " if name == "fc" else " filters, "
        assert units in title and "mean and range of 2 seeds, 400 images each" in title
    assert len(re.findall(r'<g class="layer ', text)) == len(means) == 10
    assert "S_adv (pgd), epoch 3, all seeds" in text
    assert text.count('<g class="join"') == 3
    (title,) = (t for t in titles if t.startswith("conv1: "))
    assert title.endswith("filters: 3 fragile, 5 robust (not decided), 1 antifragile")
    assert re.search(r'<path class="F" d="(M\S+ 0h\S+v3.5H\S+z){3}"/>', text)


def test_the_same_tables_give_the_same_bytes():
    tables, config = make_tables(), make_config()
    copied = {name: table.copy() for name, table in tables.items()}
    assert make_page(tables, config) == make_page(copied, config)


def test_names_are_escaped():
    evil, tables = "</script><script>alert(1)</script>&\"'", make_tables()
    names = {"conv1": evil, "standard": evil}
    tables = {name: table.replace(names) for name, table in tables.items()}
    sources = tables["graph"]["sources"].str.replace(r"(?<![\w.])conv1", evil, regex=True)
    tables["graph"]["sources"] = sources
    page = make_page(tables, make_config())
    assert "<script>alert" not in page
    scripts = [name for name in LOOK["assets"] if name.endswith(".js")]
    assert page.count("</script>") == 1 + len(scripts)
    data = re.search(r'<script type="application/json">(.*?)</script>', page, flags=re.S)[1]
    assert json.loads(data)["layers"][0] == evil


def test_the_map_of_a_large_network_is_small():
    tables = make_tables("resnet50", seeds=(0, 1, 2), epochs=(0, 1, 3, 10, 20, 50, 100))
    text = shown(tables)
    data = json.loads(re.search(r"<script.*?>(.*?)</script>", text, flags=re.S)[1])
    assert [len(data[key]) for key in ("layers", "scores", "weights", "seeds")] == [54, 3, 7, 4]
    assert len(text.encode()) < 200_000


def test_a_network_that_cannot_be_traced_says_so():
    (block,) = fault_maps(make_tables(traced=False), make_config()).blocks
    assert "cannot be traced" in said(block.notes)


def test_without_adversarial_accuracy_clean_scores_are_shown():
    tables = make_tables(values=lambda *of: float("nan") if of[2] != "S_clean" else -0.3)
    text = shown(tables)
    assert "S_clean, epoch 3" in text and text.count(">\u22120.30</text>") == 10


def test_nothing_judged():
    tables = dict.fromkeys(make_tables(), EMPTY)
    for make in (fault_maps, methods):
        assert make(tables, make_config()).blocks == []
    assert list(findings(tables, make_config())) == []


def test_all_methods_are_one_picture_with_controls():
    tables = make_tables(values=lambda seed, epoch, score, i: 0.05 * i - 0.2 + 0.001 * seed)
    made = methods(tables, make_config())
    (block,) = made.blocks
    ranks, correlations = (str(figure.svg) for figure in block.figures)
    for name in ("S_clean", "depth", "norm"):
        assert name in ranks and name in correlations
    assert "knockout" not in ranks and "+1.00*" in correlations
    assert "n = 10 layers, 2 seeds" in said(made)
    ((heading, text),) = findings(tables, make_config())
    assert "small_resnet" in heading and "depth (1.000, q < 0.001)" in text


def test_what_goes_with_nothing_is_no_finding():
    tables = make_tables(values=lambda seed, epoch, score, i: (-1) ** i * 0.1 + 0.001 * (i % 3))
    assert list(findings(tables, make_config())) == []


# In a browser

browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


FOUND = """new Promise((done) => {
  const found = document.body.dataset;
  const wait = () => "found" in found ? done(found.found) : setTimeout(wait, 10);
  wait();
})"""


def found_on(page: str, folder, *, width: int = 1400) -> str:
    """What a script of the page has put into its data-found."""
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    opened = Browser(folder / "profile", "--allow-file-access-from-files")
    try:
        opened.open(file, width=width)
        return opened.run(FOUND)
    finally:
        opened.close()


def test_layers_of_every_kind_have_a_box_and_tell_their_units():
    tables = make_tables("tokens")
    filters = [filter_rows("attention", {("fragile", True): 1, ("robust", False): 1})]
    tables["filters"] = pd.concat(filters)
    text = shown(tables)
    titles = html.unescape(" ".join(re.findall(r"<title>(.*?)</title>", text, flags=re.S)))
    told = {"patches": "conv, 4 filters", "embed": "embedding, 4 columns"}
    told |= {"attention": "attention, 2 heads", "lstm": "recurrent, 3 hidden units"}
    told |= {"fc": "linear, 10 neurons"}
    for layer, units in told.items():
        assert f"{layer}: {units}, " in titles
    assert text.count('class="body"') == len(told)
    assert "\nheads: 1 fragile, 1 robust (not decided)" in titles
    tags = re.findall(r'<tspan class="units"> (.*?)</tspan>', text)
    assert tags == ["4 columns", "2 heads", "3 hidden units"]


SWITCH = """<script>
const map = document.querySelector(".faultmap");
const wrong = [];
let count = 0;
for (const made of document.querySelectorAll("template")) {
  [...map.querySelectorAll("select")].forEach((select, k) => {
    select.value = made.dataset.view.split(",")[k];
    select.dispatchEvent(new Event("change"));
  });
  for (const part of [".parts", ".shown"])
    if (!map.querySelector(part).isEqualNode(made.content.querySelector(part)))
      wrong.push(made.dataset.view + part);
  count += 1;
}
document.body.dataset.found = count + " views, wrong: " + wrong.join(" ");
</script>"""


@browser
def test_the_script_draws_what_python_draws(monkeypatch, tmp_path):
    drawn = {}

    def every_view(parts, views, **said):
        for s, of_score in enumerate(views.views):
            for e, of_epoch in enumerate(of_score):
                for d in range(len(of_epoch)):
                    one = views._replace(chosen=(s, e, d))
                    drawn[f"{s},{e},{d}"] = fault_map(parts, one, **said)
        return fault_map(parts, views, **said)

    monkeypatch.setattr("faultline.studies.map.drawing.fault_map", every_view)
    tables = make_tables()
    tables["layers"].loc[tables["layers"]["layer"] == "fc", "class"] = "untouched"
    undefined = (tables["layers"]["layer"] == "layer1.conv1") & (tables["layers"]["seed"] == 1)
    columns = ["value", "ci_low", "ci_high"]
    tables["layers"].loc[undefined, columns] = float("nan")
    tables["layers"].loc[undefined, "class"] = "undefined"
    tables["mended_layers"] = tables["layers"].query("epoch == 3 and seed == 0").assign(value=0.01)
    page = make_page(tables, make_config())
    assert "After the mend, by S_adv (pgd)" in page
    made = "".join(f'<template data-view="{key}">{text}</template>' for key, text in drawn.items())
    found = found_on(page.replace("</body>", f"{made}{SWITCH}</body>"), tmp_path)
    assert found == "27 views, wrong: "


MEASURE = """<script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument;
  const sizes = [...page.querySelectorAll(".faultmap text, .faultmap li, .faultmap p")]
    .map((text) => parseFloat(frame.contentWindow.getComputedStyle(text).fontSize));
  const scaled = [...page.querySelectorAll(".part svg")]
    .filter((svg) => Math.abs(svg.getBoundingClientRect().width - svg.viewBox.baseVal.width) > 1);
  const out = [...page.querySelectorAll(".faultmap, .faultmap .part")]
    .filter((part) => part.getBoundingClientRect().right > frame.clientWidth);
  document.body.dataset.found = [Math.min(...sizes), scaled.length, out.length].join(" ");
};
</script>"""


@browser
@pytest.mark.parametrize("width", [400, 1400])
def test_the_map_is_legible_on_a_phone_and_on_a_wide_page(width, tmp_path):
    page = make_page(make_tables("squeezenet1_1", seeds=(0,)), make_config(seeds=[0]))
    (tmp_path / "inner.html").write_text(page, encoding="utf-8")
    around = (
        f'<body><iframe src="inner.html" width="{width}" height="900"></iframe>{MEASURE}</body>'
    )
    smallest, scaled, out = map(float, found_on(around, tmp_path, width=1600).split())
    assert smallest >= 10 and not scaled and not out


SAVE = """<script>
URL.createObjectURL = (blob) => { blob.text().then((text) => {
  const svg = new DOMParser().parseFromString(text, "image/svg+xml");
  const count = (what) => svg.querySelectorAll(what).length;
  const found = [count("parsererror, script"), count(".layer")];
  found.push(svg.querySelector("style").textContent.includes(".faultmap .layer"));
  document.body.dataset.found = found.join(" ");
  document.body.dataset.saved = text;
}); return "#"; };
document.querySelector("figure:has(.faultmap) .tools button").click();
</script>"""


@browser
def test_the_map_is_saved_whole(tmp_path):
    page = make_page(make_tables("squeezenet1_1", seeds=(0,)), make_config(seeds=[0]))
    assert found_on(page.replace("</body>", f"{SAVE}</body>"), tmp_path) == "0 26 true"


PACKED = """<script>
const wait = setInterval(() => {
  if (document.querySelector("[data-packed]")) return;
  const select = document.querySelector(".faultmap .switch select");
  select.value = 0;
  select.dispatchEvent(new Event("change"));
  document.body.dataset.found = document.querySelector(".shown").textContent;
  clearInterval(wait);
});
</script>"""


@browser
def test_the_map_of_a_large_page_is_unpacked_and_switches(monkeypatch, tmp_path):
    packed = functools.partial(render_module.packed, plain=0)
    monkeypatch.setattr(render_module, "packed", packed)
    page = make_page(make_tables(), make_config())
    assert "data-packed=" in page and '<div class="faultmap"' not in page
    found = found_on(page.replace("</body>", f"{PACKED}</body>"), tmp_path)
    assert found.startswith("S_clean, epoch 3, all seeds: ")
