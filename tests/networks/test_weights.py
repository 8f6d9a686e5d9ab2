"""The user's weights: what is read, what fits, what is refused."""

import json
import pickle
import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import Code, error_of
from torch import nn
from torch.nn.utils import prune

from faultline.base.errors import UserError
from faultline.base.files import load_state_dict, save_tensors
from faultline.networks.architectures import Network, Normalise
from faultline.networks.registry import build
from faultline.networks.vision import load_torchvision
from faultline.networks.weights import load_weights
from faultline.training.checkpoints import checkpoint
from faultline.training.epochs import make_optimizer

STATE = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.tensor([1.0, 2.0])}


def network(name="small_conv", *, classes=3, channels=3, size=32, seed=0, mean=0.0, std=1.0):
    return build(name, shape=(channels, size, size), classes=classes, mean=mean, std=std, seed=seed)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 5, "optimizer": {"lr": 0.1}},
        {"model": STATE, "args": ["--lr", 0.1]},
        {"model_state_dict": STATE, "optimizer_state_dict": {"lr": 0.1}},
        {"network": STATE},
        {f"module.{name}": tensor for name, tensor in STATE.items()},
        {"state_dict": {f"module.{name}": tensor for name, tensor in STATE.items()}},
    ],
)
@pytest.mark.parametrize("old_format", [False, True])
def test_forms_of_a_state_dict(content, old_format, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    assert same(load_state_dict(path), STATE)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors(prefix, tmp_path):
    save_file({prefix + name: t for name, t in STATE.items()}, tmp_path / "w.safetensors")
    assert same(load_state_dict(tmp_path / "w.safetensors"), STATE)


@pytest.mark.parametrize("wrap", [lambda code: code, lambda code: STATE | {"more": code}])
@pytest.mark.parametrize("save", [torch.save, lambda c, p: p.write_bytes(pickle.dumps(c))])
def test_code_is_refused(wrap, save, tmp_path):
    save(wrap(Code(tmp_path / "ran")), tmp_path / "weights.pt")
    message = error_of(load_state_dict, tmp_path / "weights.pt")
    assert not (tmp_path / "ran").exists()
    assert message.startswith(f"{tmp_path / 'weights.pt'}: refused") and "code" in message
    assert "state_dict() alone" in message and "delete" not in message


def test_a_whole_network_is_refused(tmp_path):
    torch.save(torch.nn.Linear(3, 2), tmp_path / "weights.pt")
    assert "state_dict() alone" in error_of(load_state_dict, tmp_path / "weights.pt")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"PK\x03\x04",
        bytes(64),
        b"\xff" * 64,
        b'\x10\0\0\0\0\0\0\0{"a": 5}' + b" " * 8,
    ],
)
def test_damaged_file(name, content, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    assert error_of(load_state_dict, path).startswith(f"{path}: ")


def test_truncated_files(tmp_path):
    torch.save(STATE, tmp_path / "w.pt")
    save_file(STATE, tmp_path / "w.safetensors")
    for path in (tmp_path / "w.pt", tmp_path / "w.safetensors"):
        path.write_bytes(path.read_bytes()[:-20])
        assert error_of(load_state_dict, path).startswith(f"{path}: cannot be read")


def test_a_flipped_byte_of_a_tensor_is_seen(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"weight": torch.full((64,), 0.1)}, path)
    whole = path.read_bytes()
    at = whole.index(torch.full((64,), 0.1).numpy().tobytes()) + 100
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert "damaged, its part w/data/0 does not fit its checksum" in error_of(load_state_dict, path)


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        ({}, "nothing"),
        ({"weights": STATE, "epoch": 3}, "holds weights, epoch"),
        ([1, 2], "holds list"),
        (torch.zeros(3), "holds Tensor"),
        ({"state_dict": {}}, "nothing"),
        (STATE | {"lr": 0.1}, "holds fc.weight, fc.bias, lr"),
        ({0: STATE["fc.bias"], "fc.weight": STATE["fc.weight"]}, "holds 0, fc.weight"),
    ],
)
def test_no_state_dict(content, holds, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    message = error_of(load_state_dict, tmp_path / "weights.pt")
    assert holds in message and "expected a state dict" in message


AVERAGE = {name: tensor + 10 for name, tensor in STATE.items()}


def of_torch(network) -> dict:
    """What torchvision's training saves of its moving average."""
    return torch.optim.swa_utils.AveragedModel(network).state_dict()


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"state_dict": STATE, "state_dict_ema": AVERAGE}, ["state_dict", "state_dict_ema"]),
        ({"model": STATE, "model_ema": AVERAGE, "epoch": 3}, ["model", "model_ema"]),
        ({"model": STATE, "ema": {"module": AVERAGE, "updates": 9}}, ["model", "ema.module"]),
        ({"state_dict": STATE, "model": AVERAGE}, ["state_dict", "model"]),
        ({"student": STATE, "teacher": AVERAGE}, ["student", "teacher"]),
        (
            {"state_dict": STATE, "callbacks": {"EMA": {"weights": AVERAGE}}},
            ["state_dict", "callbacks.EMA.weights"],
        ),
    ],
)
def test_of_several_state_dicts_none_is_guessed(content, names, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    message = error_of(load_state_dict, path)
    assert message.startswith(f"{path}: holds several state dicts, {', '.join(names)}; ")
    assert f"{{file: {path}, key: {names[1]}}}" in message
    for name, expected in zip(names, (STATE, AVERAGE), strict=True):
        assert same(load_state_dict(path, name), expected)
    assert f"did you mean {names[1]!r}?" in error_of(load_state_dict, path, f"{names[1]}s")


def test_a_state_dict_by_a_name_of_its_own(tmp_path):
    torch.save({"weights": STATE, "epoch": 3}, tmp_path / "w.pt")
    assert f"or say weights: {{NETWORK: {{file: {tmp_path / 'w.pt'}, key: weights}}}}" in error_of(
        load_state_dict, tmp_path / "w.pt"
    )
    assert same(load_state_dict(tmp_path / "w.pt", "weights"), STATE)
    torch.save(STATE, tmp_path / "w.pt")
    save_file(STATE, tmp_path / "w.safetensors")
    for file in ("w.pt", "w.safetensors"):
        assert "is one state dict" in error_of(load_state_dict, tmp_path / file, "model")


@pytest.mark.parametrize(
    "more",
    [
        {"optimizer": {"state": {0: STATE}, "param_groups": [{"lr": 0.1}]}},
        {"optimizer_state_dict": {"state": {"fc.weight": {"exp_avg": STATE["fc.weight"]}}}},
        {"scaler": {"scale": 65536.0, "_growth_tracker": 0}},
        {"rng": {"cpu": torch.zeros(5, dtype=torch.uint8)}},
        {"history": [{"loss": 0.5}], "args": {"lr": 0.1}},
    ],
)
def test_what_else_a_training_saves_is_no_state_dict(more, tmp_path):
    torch.save({"model": STATE, **more}, tmp_path / "w.pt")
    assert same(load_state_dict(tmp_path / "w.pt"), STATE)


def test_a_dict_within_itself_has_an_end(tmp_path):
    content = {"model": STATE}
    content["more"] = content
    torch.save(content, tmp_path / "w.pt")
    assert "holds several state dicts, model, more.model" in error_of(
        load_state_dict, tmp_path / "w.pt"
    )


def test_the_average_that_torch_makes(tmp_path):
    last, average = network(seed=5), network(seed=6)
    content = {"model": last.body.state_dict(), "model_ema": of_torch(average.body)}
    torch.save(content, tmp_path / "w.pth")
    for key, expected in (("model", last), ("model_ema", average)):
        net = network()
        load_weights(net, load_state_dict(tmp_path / "w.pth", key), origin="w.pth")
        assert same(net.body.state_dict(), expected.body.state_dict())
    torch.save(of_torch(average.body), tmp_path / "w.pth")
    assert same(load_state_dict(tmp_path / "w.pth"), average.body.state_dict())


# What fits


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x1_0", "squeezenet1_1"])
def test_weights_of_torchvision(name, tmp_path):
    torch.manual_seed(3)
    theirs = load_torchvision().models.get_model(name, num_classes=5)
    images = torch.rand(2, 3, 32, 32)
    theirs(images)  # moves the statistics of BatchNorm
    torch.save(theirs.eval().state_dict(), tmp_path / "w.pth")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    ours = network(name, classes=5, mean=mean, std=std)
    load_weights(ours, load_state_dict(tmp_path / "w.pth"), origin="w.pth")
    column = (slice(None), None, None)
    normalised = (images - torch.tensor(mean)[column]) / torch.tensor(std)[column]
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(normalised))


def test_with_and_without_body():
    given, one, other = (network(seed=seed) for seed in (5, 0, 0))
    state = given.body.state_dict()
    load_weights(one, state, origin="file")
    load_weights(other, {f"body.{name}": tensor for name, tensor in state.items()}, origin="file")
    assert same(one.state_dict(), given.state_dict()) and same(other.state_dict(), one.state_dict())


def test_weights_both_with_and_without_body_are_refused():
    one, other = (network(seed=seed).body.state_dict() for seed in (5, 6))
    state = one | {f"body.{name}": tensor for name, tensor in other.items()}
    assert "unknown (conv1.weight" in error_of(load_weights, network(), state, origin="file")


class Wrapped(torch.nn.Module):
    """A network that calls its parts as wrappers do."""

    def __init__(self, *names: str):
        super().__init__()
        for name in names:
            self.add_module(name, torch.nn.Linear(3, 2))


@pytest.mark.parametrize("names", [("module",), ("body",), ("body", "module", "normalise")])
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_parts_that_are_called_as_prefixes_are(names, parallel, checkpoint, tmp_path):
    from_user = Network(Normalise(0.3, 0.2, shape=(3,)), Wrapped(*names))
    ours = Network(Normalise(0.0, 1.0, shape=(3,)), Wrapped(*names))
    state = (from_user if checkpoint else from_user.body).state_dict()
    torch.save({f"{'module.' * parallel}{n}": t for n, t in state.items()}, tmp_path / "w.pt")
    load_weights(ours, load_state_dict(tmp_path / "w.pt"), origin="w.pt")
    assert same(ours.body.state_dict(), from_user.body.state_dict())
    assert (ours.normalise.mean == (0.3 if checkpoint else 0.0)).all()


def test_counts_of_batches_may_be_lacking():
    given, net = network(seed=5), network()
    state = {n: t for n, t in given.body.state_dict().items() if "num_batches" not in n}
    load_weights(net, state, origin="file")
    assert same(net.state_dict(), given.state_dict())


def test_our_own_checkpoint_brings_its_normalisation(tmp_path, capsys):
    given, net = network(seed=5, mean=0.3, std=0.2), network()
    settings = {"optimizer": "adam", "lr": 0.1, "weight_decay": 0}
    state = checkpoint(given, make_optimizer(given, settings), epoch=3, seed=0)
    save_tensors(state, tmp_path / "checkpoint.pt")
    load_weights(net, load_state_dict(tmp_path / "checkpoint.pt"), origin="file")
    assert same(net.state_dict(), given.state_dict())
    assert not capsys.readouterr().out


def test_weights_without_normalisation_are_told_of(capsys):
    net = network(mean=0.25, std=0.5)
    load_weights(net, network(seed=5, mean=0.3).body.state_dict(), origin="file")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("warning: file: ") and "normalise.mean [0.25, 0.25, 0.25]" in line
    assert "computed from the training split" in line
    assert (net.normalise.mean == 0.25).all()


def test_whose_mean_and_std_images_are_normalised_by(capsys):
    state, key = network(seed=5, channels=1).body.state_dict(), "datasets.fashion.mean"
    net = network(channels=1, mean=[0.286], std=[0.353])
    load_weights(net, state, origin="w.pt", moments_key=key)
    assert capsys.readouterr().out == (
        "warning: w.pt: holds no normalise.mean and no normalise.std, so images are normalised by "
        "normalise.mean [0.286] and normalise.std [0.353], of the config key datasets.fashion.mean "
        "and std; if the network was trained with others, mend the config\n"
    )
    own = {f"body.{n}": t for n, t in state.items()} | {
        "normalise.mean": torch.full((1, 1, 1), 0.1307),
        "normalise.std": net.normalise.std.clone(),
    }
    load_weights(net, own, origin="w.pt", moments_key=key)
    assert capsys.readouterr().out == (
        "warning: w.pt: images are normalised by its normalise.mean [0.1307], not by "
        "normalise.mean [0.286], of the config key datasets.fashion.mean and std\n"
    )
    assert net.normalise.mean.item() == pytest.approx(0.1307)
    load_weights(net, own, origin="w.pt", moments_key=key)  # both say the same
    load_weights(network(channels=1), own, origin="w.pt")
    assert not capsys.readouterr().out


def test_half_precision_becomes_single():
    given, net = network(seed=5), network()
    state = {
        n: t.half() if t.is_floating_point() else t for n, t in given.body.state_dict().items()
    }
    load_weights(net, state, origin="file")
    assert {t.dtype for t in net.parameters()} == {torch.float32}
    assert np.allclose(net.body.fc.weight.detach(), given.body.fc.weight.detach(), atol=1e-3)


def changed(change: str) -> dict:
    """A state dict of small_conv for 3 classes, made wrong."""
    state = network(seed=5).body.state_dict()
    if change == "other classes":
        return network(classes=7).body.state_dict()
    if change == "other network":
        return network("lsa_mnist").body.state_dict()
    if change == "lacking":
        del state["fc.bias"]
    if change == "more":
        state["fc2.bias"] = torch.zeros(3)
    if change == "number":
        state["fc.bias"] = torch.tensor(1.0)
    return state


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (
            "other classes",
            [
                "2 of another shape (fc.weight 7x128, expected 3x128, fc.bias 7, expected 3)",
                "they tell 7 classes apart, the network 3: give those of 3 classes",
            ],
        ),
        ("other network", ["missing (bn1.weight, bn1.bias, bn1.running_mean, ...)", "unknown ("]),
        ("lacking", ["1 missing (fc.bias)"]),
        ("more", ["1 unknown (fc2.bias)"]),
        ("number", ["fc.bias a number, expected 3"]),
    ],
)
def test_weights_that_do_not_fit(change, parts):
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    message = error_of(load_weights, net, changed(change), origin="file.pt, for small_conv")
    assert message.startswith("file.pt, for small_conv: the weights do not fit: ")
    assert all(part in message for part in parts), message
    assert same(before, net.state_dict())


def before(prefix: str):
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def robustbench(state: dict) -> dict:
    moments = {"mu": torch.full((1, 3, 1, 1), 0.5), "sigma": torch.full((1, 3, 1, 1), 0.25)}
    return before("module.")(state) | moments


def sequential(state: dict) -> dict:
    return before("1.")(state) | {"0.mean": torch.full((3,), 0.5), "0.std": torch.full((3,), 0.25)}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (before("_orig_mod."), ["stripped '_orig_mod.' of the names"]),
        (before("model."), ["stripped 'model.' of the names"]),
        (before("net.backbone."), ["stripped 'net.backbone.' of the names"]),
        (before("module._orig_mod.model."), ["stripped 'module._orig_mod.model.' of the names"]),
        (before("1."), ["stripped '1.' of the names"]),
        (robustbench, ["stripped", "took mu as the mean", "took sigma as the std"]),
        (sequential, ["stripped '1.'", "took 0.mean as the mean", "took 0.std as the std"]),
    ],
)
def test_what_stands_before_the_names(made, words, capsys):
    given, net = network(seed=5), network()
    did = load_weights(net, made(given.body.state_dict()), origin="file")
    assert len(did) == len(words) and all(map(str.startswith, did, words))
    assert same(net.body.state_dict(), given.body.state_dict())
    moments = (net.normalise.mean.unique().tolist(), net.normalise.std.unique().tolist())
    assert moments == (([0.5], [0.25]) if len(words) > 1 else ([0.0], [1.0]))


class Around(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Wrapped("conv", "fc")


def test_weights_of_a_part_of_the_network():
    given, net = Wrapped("conv", "fc"), Network(torch.nn.Identity(), Around())
    assert load_weights(net, given.state_dict(), origin="f") == ["put 'net.' before the names"]
    assert same(net.body.net.state_dict(), given.state_dict())


def test_two_networks_in_one_state_dict_are_not_guessed():
    state = network(seed=5).body.state_dict()
    both = before("student.")(state) | before("teacher.")(state)
    message = error_of(load_weights, network(), both, origin="file")
    assert message.startswith("file: holds several such networks, under student. and teacher.")


def test_what_else_a_file_holds_is_named():
    state = before("model.")(network(seed=5).body.state_dict())
    message = error_of(load_weights, network(), state | {"loss.w": torch.ones(3)}, origin="f")
    assert "1 unknown (loss.w)" in message
    state["model.fc_.bias"] = state.pop("model.fc.bias")
    message = error_of(load_weights, network(), state, origin="f")
    assert (
        "1 missing (fc.bias); 1 unknown (fc_.bias)" in message and "near: fc_.bias for" in message
    )


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda m: prune.l1_unstructured(m, "weight", 0.5), "pruned"),
        (nn.utils.weight_norm, "normalised"),
        (lambda m: nn.utils.weight_norm(m, dim=1), "normalised"),
        (lambda m: nn.utils.weight_norm(m, dim=None), "normalised"),
        (nn.utils.spectral_norm, "spectrally normalised"),
        (nn.utils.parametrizations.weight_norm, "normalised"),
        (nn.utils.parametrizations.spectral_norm, "spectrally normalised"),
    ],
)
@pytest.mark.parametrize("layer", ["conv2", "fc"])
@pytest.mark.parametrize("prefix", ["", "module.model."])
def test_weights_that_torch_makes_of_others(make, what, layer, prefix):
    given, net, images = network(seed=5), network(), torch.rand(2, 3, 32, 32)
    made = make(given.body.get_submodule(layer))
    made.train()(torch.rand(2, *((16, 8, 8) if layer == "conv2" else (128,))))
    given.eval()
    did = load_weights(net, before(prefix)(given.body.state_dict()), origin="file")
    assert did[0] == f"folded 1 {what} weights"
    with torch.no_grad():
        torch.testing.assert_close(net(images), given(images), rtol=1e-5, atol=1e-5)


def test_weights_in_shards(tmp_path):
    half = {"fc.weight": STATE["fc.weight"]}, {"fc.bias": STATE["fc.bias"]}
    for form, save in (("safetensors", save_file), ("bin", torch.save)):
        names = [f"model-{n}.{form}" for n in (1, 2)]
        for name, part in zip(names, half, strict=True):
            save(part, tmp_path / name)
        index = tmp_path / f"model.{form}.index.json"
        keys = [*half[0], *half[1]]
        index.write_text(json.dumps({"weight_map": dict(zip(keys, names, strict=True))}))
        assert same(load_state_dict(index), STATE)
        (tmp_path / names[0]).unlink()
        assert f"names {names[0]}, which is not beside it" in error_of(load_state_dict, index)
        index.write_text(json.dumps({"weight_map": {"a": "../model-2.bin"}}))
        assert "not beside it" in error_of(load_state_dict, index)
        index.write_text("[]")
        assert "expected the index" in error_of(load_state_dict, index)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_code_and_whole_numbers_are_told_from_weights(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Linear(3, 2), torch.rand(1, 3)), tmp_path / "w.pt")
    message = error_of(load_state_dict, tmp_path / "w.pt")
    assert "is TorchScript" in message and "torch.jit.load(FILE).state_dict()" in message
    state = network().body.state_dict() | {"fc.zero_point": torch.tensor(0)}
    assert "are quantised (fc.zero_point)" in error_of(load_weights, network(), state, origin="f")


def replaced(name: str, tensor) -> dict:
    state = network("small_resnet", seed=5).body.state_dict()
    return state | {name: tensor(state[name])}


@pytest.mark.parametrize(
    ("name", "tensor", "why"),
    [
        ("fc.weight", lambda t: torch.full_like(t, torch.nan), "fc.weight holds NaN"),
        ("fc.bias", lambda t: t - torch.inf, "fc.bias holds NaN or an infinity"),
        ("fc.bias", lambda t: t.double() + 1e300, "fc.bias holds NaN or an infinity"),
        ("fc.weight", lambda t: t.int(), "fc.weight is of type int32; expected finite numbers"),
        ("fc.weight", lambda t: t > 0, "fc.weight is of type bool"),
        ("fc.weight", lambda t: t + 0j, "fc.weight is of type complex64"),
        ("fc.weight", lambda t: torch.quantize_per_tensor(t, 1.0, 0, torch.qint8), "type qint8"),
        ("fc.weight", lambda t: t.to_sparse(), "fc.weight is sparse"),
        ("fc.weight", lambda t: t.to_sparse_csr(), "fc.weight is sparse"),
        ("fc.weight", lambda t: t.to("meta"), "fc.weight is a meta tensor"),
        ("bn1.running_var", lambda t: t - 2, "bn1.running_var holds -1, but is a variance"),
    ],
)
def test_a_tensor_that_is_no_use_is_named(name, tensor, why, tmp_path):
    torch.save(replaced(name, tensor), tmp_path / "w.pt")
    state, net = load_state_dict(tmp_path / "w.pt"), network("small_resnet")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    message = error_of(load_weights, net, state, origin="w.pt")
    assert message.startswith("w.pt: ") and why in message
    assert same(before, net.state_dict())


@pytest.mark.parametrize("std", [0.0, -1.0, torch.nan])
def test_a_normalisation_that_cannot_be_divided_by(std):
    state = {f"body.{n}": t for n, t in network(seed=5).body.state_dict().items()}
    state |= {"normalise.mean": torch.zeros(3, 1, 1), "normalise.std": torch.full((3, 1, 1), std)}
    assert "normalise.std holds" in error_of(load_weights, network(), state, origin="file")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("old_format", [False, True])
def test_any_damage_is_named(old_format, tmp_path):
    path, draw = tmp_path / "weights.pt", random.Random(0)
    torch.save(STATE, path, _use_new_zipfile_serialization=not old_format)
    whole = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 3, 10])):
            damaged[draw.randrange(len(whole))] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            load_state_dict(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
