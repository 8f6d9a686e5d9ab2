"""Networks of timm and transformers, small and with random weights, against a plain loop."""

from functools import partial

import pytest
import torch
from support import ROOT, fenced
from sweeps import naive_logits
from torch import nn

from faultline.ablation.sweep import logits_of
from faultline.ablation.variants import Variant, nodal_variants, synaptic_variants
from faultline.networks.inspect import coverage, probe
from faultline.networks.layers import Bare, by_rows, every_layer, filters, kind, layers, of_units
from faultline.networks.reach import reach
from faultline.networks.registry import classifier
from faultline.networks.vision import load_torchvision

load_torchvision()  # which timm imports
timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

TWO = {"depth": 2, "embed_dim": 32, "num_heads": 2}
FOUR = {"embed_dims": (16, 16, 32, 32), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
WINDOWS = {"embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2), "img_size": 32}

TIMM = {
    **{f"test_{name}": {} for name in ("byobnet", "convnext", "efficientnet", "efficientnet_evos")},
    **{f"test_{name}": {} for name in ("mambaout", "nfnet", "resnet", "vit", "vit2")},
    **{f"test_{name}": {"img_size": 64} for name in ("coatnet", "vit_relpos")},
    "beit_base_patch16_224": TWO | {"img_size": 64},
    "cait_xxs24_224": TWO | {"img_size": 64},
    "davit_tiny": FOUR,
    "deit_tiny_distilled_patch16_224": TWO | {"img_size": 64},
    "densenet121": {"block_config": (1, 1, 1, 1)},
    "edgenext_xx_small": {"dims": (8, 16, 24, 32), "depths": (1, 1, 2, 1)},
    "eva02_tiny_patch14_224": TWO | {"img_size": 56},
    "hiera_tiny_224": {"stages": (1, 1), "embed_dim": 32, "q_pool": 1, "img_size": 64},
    "lcnet_050": {},
    "levit_128s": {
        **{"embed_dim": (32,) * 3, "depth": (1,) * 3, "num_heads": (1, 2, 2), "img_size": 64}
    },
    "pit_ti_224": {"base_dims": [16] * 3, "depth": [1] * 3, "heads": [1, 2, 2], "img_size": 64},
    "sequencer2d_s": {"layers": (1,) * 4, "embed_dims": (16,) * 4, "hidden_sizes": (8,) * 4},
    "starnet_s050": {},
    "swin_tiny_patch4_window7_224": WINDOWS | {"window_size": 4},
    "swinv2_cr_tiny_224": WINDOWS,
    "swinv2_tiny_window8_256": WINDOWS | {"window_size": 4},
    "tresnet_m": {"layers": (1, 1, 1, 1)},
    "twins_pcpvt_small": FOUR,
    "visformer_tiny": {"embed_dim": 32, "depth": (1, 1, 1), "num_heads": 2, "img_size": 64},
    "xcit_nano_12_p16_224": TWO | {"img_size": 32},
}

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZE |= {"intermediate_size": 64, "num_labels": 5}
WORDS = {"vocab_size": 50, "max_position_embeddings": 40, "pad_token_id": 0}
PIXELS = {"image_size": 32, "patch_size": 8}
TRANSFORMERS = {
    "AlbertForSequenceClassification": SIZE | WORDS | {"embedding_size": 16},
    "BeitForImageClassification": SIZE | PIXELS | {"use_relative_position_bias": True},
    "BertForSequenceClassification": SIZE | WORDS,
    "ConvNextForImageClassification": {
        **{"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 5}
    },
    "DistilBertForSequenceClassification": {
        **{"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "num_labels": 5},
        **{"vocab_size": 50},
    },
    "GPT2ForSequenceClassification": {
        **{"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 40, "num_labels": 5},
        **{"vocab_size": 50, "pad_token_id": 0},
    },
    "LlamaForSequenceClassification": SIZE | WORDS | {"num_key_value_heads": 1},
    "SwinForImageClassification": {
        **{"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1]},
        **{"num_heads": [1, 2], "window_size": 4, "num_labels": 5},
    },
    "ViTForImageClassification": SIZE | PIXELS,
    "Wav2Vec2ForSequenceClassification": SIZE
    | {"conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 8)}
    | {"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 16, "classifier_proj_size": 16}
    | {"num_conv_pos_embedding_groups": 2},
}


class Conditional(nn.Module):
    """Convolutions whose kernels are mixed of those of experts, for each image."""

    def __init__(self):
        super().__init__()
        self.stem, self.route = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 4)
        self.conv = timm.layers.CondConv2d(8, 8, 3, num_experts=4)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.head(self.conv(x, self.route(x.mean((2, 3))).sigmoid()).relu().mean((2, 3)))


def of_timm(name):
    given = TIMM[name]
    network = timm.create_model(name, num_classes=5, **given)
    side = given.get("img_size", 64)
    return network, torch.rand(4, 3, side, side)


def of_transformers(name):
    config = getattr(transformers, name.partition("For")[0] + "Config")
    network = getattr(transformers, name)(config(**TRANSFORMERS[name]))
    if "Sequence" not in name:
        return network, torch.rand(4, 3, 32, 32)
    if name.startswith("Wav"):
        return network, torch.rand(4, 1600)
    return network, torch.randint(1, 50, (4, 10))


def case(make, name):
    quick = name.startswith(("xcit", "pit", "edgenext", "swin_", "GPT2", "Llama", "ViT"))
    return pytest.param(partial(make, name), id=name, marks=[pytest.mark.slow] * (not quick))


def stirred(network):
    """With parameters as training leaves them: none is 0 throughout, and none is alone in it."""
    for parameter in network.parameters():
        if parameter.dim() < 2 or not parameter.any():
            nn.init.normal_(parameter, 0.5 if parameter.dim() < 2 else 0, 0.2)
    return network


def few(network, used):
    """Layers at the beginning, in the middle and at the end, and a bare parameter, if any."""
    names = [name for name in layers(network) if name in used]
    bare = [n for n, layer in every_layer(network).items() if isinstance(layer, Bare) and n in used]
    return [names[0], names[len(names) // 2], names[-1], *bare[-1:]]


def removed(network, name):
    """A unit, and the smaller half of the weights, of a layer."""
    layer = every_layer(network)[name]
    variants = [*nodal_variants(name, layer, filters=[0], at="weights")]
    variants += synaptic_variants({name: layer}, kinds=["high_pass"], count=3)[1:2]
    return [Variant({"layer": name}, v.key, v.replace, v.mask) for v in variants]


@pytest.mark.parametrize(
    "make",
    [
        *(case(of_timm, name) for name in TIMM),
        *(case(of_transformers, name) for name in TRANSFORMERS),
        pytest.param(lambda: (Conditional(), torch.rand(4, 3, 16, 16)), id="CondConv2d"),
    ],
)
def test_a_sweep_is_the_plain_loop(make, capsys):
    torch.manual_seed(0)
    network, inputs = make()
    network = classifier(stirred(network), inputs)
    reached = reach(network, [inputs])
    chosen = few(network, reached.layers)
    known = coverage(network.body, reached)
    in_layers = {id(p) for n in layers(network) for p in layers(network)[n].parameters()}
    seen = sum(p.numel() for p in network.parameters() if id(p) in in_layers & reached.parameters)
    assert seen + sum(row[2] for row in known["unseen"]) == known["parameters"]
    unused = sum(row[2] for row in known["unseen"] if row[3] == "unused")
    every = {id(p) for layer in every_layer(network).values() for p in layer.parameters()}
    assert every >= reached.parameters and unused <= 0.05 * known["parameters"], known["unseen"]
    variants = [variant for name in chosen for variant in removed(network, name)]
    base, *found = logits_of(network, variants, inputs, ablated=chosen)
    for variant, logits in zip(variants, found, strict=True):
        expected = naive_logits(network, variant, inputs)
        tolerance = 1e-4 * max(expected.abs().max().item(), base.abs().max().item())
        torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance)
    assert any(not torch.equal(logits, base) for logits in found)
    assert "fails here" not in capsys.readouterr().out


def test_a_unit_of_a_conv1d_is_a_column():
    layer = transformers.pytorch_utils.Conv1D(3, 4)
    nn.init.normal_(layer.bias)
    assert kind(layer) == "linear" and filters(layer) == 3 and not by_rows(layer)
    x = torch.rand(2, 5, 4)
    before = layer(x).detach()
    with torch.no_grad():
        for name, belongs in of_units(layer, [1]).items():
            layer.get_parameter(name)[belongs] = 0
    assert torch.equal(layer(x), before * torch.tensor([1, 0, 1]))


@pytest.mark.parametrize("name", ["xcit", "vit", "lit", "normalised"])
def test_the_networks_of_the_page(name, tmp_path):
    page = (ROOT / "docs/own.md").read_text(encoding="utf-8")
    (code,) = [text for _, text in fenced(page) if text.startswith("# my_models.py")]
    (tmp_path / "my_models.py").write_text(code, encoding="utf-8")
    facts = probe(f"{tmp_path}/my_models.py:{name}", [((3, 32, 32), 4)])
    assert facts["layers"] and ("logits" in facts["form"]) == (name == "vit")
