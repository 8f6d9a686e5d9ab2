import json
import math

import pytest
import torch
from torch import nn

from faultline.base.errors import UserError
from faultline.networks import architectures, inspect
from faultline.networks.facts import BUILTIN_FILE
from faultline.networks.inspect import catalogue
from faultline.networks.layers import layers
from faultline.networks.reach import reach
from faultline.networks.registry import REGISTRY, build
from faultline.networks.vision import load_torchvision

NAMES = list(REGISTRY)
IMAGES = [name for name, entry in REGISTRY.items() if entry.input == "image"]
TORCHVISION = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "squeezenet1_1": 1_235_496,
    "shufflenet_v2_x1_0": 2_278_604,
    "alexnet": 61_100_840,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
}
# Built with weights in well under a second; the others stay on the meta device.
LIGHT = [n for n in NAMES if n not in ("alexnet", "vgg16", "vgg19", "wideresnet28_10")]


def shape_of(name, size, channels=1):
    return (channels, size, size) if REGISTRY[name].input == "image" else (size,)


def classes_of(name, wanted=10):
    return REGISTRY[name].classes or wanted


def fresh(name, seed=0, size=None, channels=1):
    """A network with weights, for inputs of the given or the smallest size."""
    shape = shape_of(name, size or REGISTRY[name].min_size, channels)
    return build(name, shape=shape, classes=classes_of(name), mean=0.5, std=0.25, seed=seed)


def hollow(name, size=None, channels=1, classes=10):
    """A body without weights."""
    with torch.device("meta"):
        shape = shape_of(name, size or REGISTRY[name].min_size, channels)
        return REGISTRY[name].build(shape, classes_of(name, classes))


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_torchvision_imports_and_its_models_build():
    models = load_torchvision().models
    assert load_torchvision().models is models
    assert models.resnet18(num_classes=7).fc.out_features == 7


def test_images_are_normalised_per_channel():
    normalise = architectures.Normalise([0.5, 0.25], [0.5, 0.125], shape=(2, 1, 2))
    x = torch.tensor([[[[0.0, 1.0]], [[0.5, 0.25]]]])
    assert normalise(x).tolist() == [[[[-1.0, 1.0]], [[2.0, 0.0]]]]
    assert not list(normalise.parameters())
    assert set(normalise.state_dict()) == {"mean", "std"}


def test_vectors_are_normalised_per_feature():
    normalise = architectures.Normalise([1.0, -2.0], [2.0, 4.0], shape=(2,))
    assert normalise(torch.tensor([[3.0, 0.0], [1.0, -2.0]])).tolist() == [[1.0, 0.5], [0.0, 0.0]]


def test_one_mean_serves_all_channels():
    normalise = architectures.Normalise(0.5, 0.5, shape=(3, 1, 1))
    assert normalise(torch.ones(1, 3, 1, 1)).tolist() == torch.ones(1, 3, 1, 1).tolist()


def test_normalisation_comes_first_and_is_part_of_the_network():
    network = fresh("small_conv", size=8)
    assert [name for name, _ in network.named_children()] == ["normalise", "body"]
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(network(x), network.body((x - 0.5) / 0.25))


@pytest.mark.parametrize("name", LIGHT)
def test_logits_of_a_built_network(name):
    network = fresh(name)
    assert not network.training
    logits = network(torch.rand(2, *shape_of(name, REGISTRY[name].min_size)))
    assert logits.shape == (2, classes_of(name))
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["small_conv", "small_resnet"])
def test_small_networks_take_larger_and_oblong_images(name):
    for height, width in ((8, 8), (28, 28), (32, 20)):
        shape = (3, height, width)
        network = build(name, shape=shape, classes=4, mean=0.0, std=1.0, seed=0)
        assert network(torch.rand(2, *shape)).shape == (2, 4)


def multiply_adds(network, shape):
    """Multiplications in the layers for one image."""
    total = 0

    def count(layer, _, output):
        nonlocal total
        total += layer.weight.numel() * math.prod(output.shape[2:])

    for layer in layers(network).values():
        layer.register_forward_hook(count)
    network(torch.zeros(1, *shape))
    return total


def test_small_networks_are_small():
    # 64 * 9*16 + 64 * 9*16*32 + 16 * 9*32*32 + 128*10
    assert multiply_adds(fresh("small_conv", size=8), (1, 8, 8)) == 452_864
    assert multiply_adds(fresh("small_resnet", size=8), (1, 8, 8)) < 800_000


def test_lsa_mnist_layers_by_hand():
    found = {
        path: tuple(layer.weight.shape) for path, layer in layers(hollow("lsa_mnist", 28)).items()
    }
    assert found == {
        "conv1": (16, 1, 5, 5),
        "conv2": (32, 16, 5, 5),
        "conv3": (64, 32, 5, 5),
        "fc1": (100, 64 * 7 * 7),
        "fc2": (10, 100),
    }
    assert layers(hollow("lsa_mnist", 8))["fc1"].in_features == 64 * 2 * 2


def test_lsa_moons_parameters_by_hand():
    expected = (2 * 100 + 100) + 2 * (100 * 100 + 100) + (100 + 1)
    assert parameters(fresh("lsa_moons", size=2)) == expected


def test_mlp_parameters_by_hand():
    expected = (30 * 64 + 64) + (64 * 64 + 64) + (64 * 2 + 2)
    network = build("mlp", shape=(30,), classes=2, mean=0.5, std=0.25, seed=0)
    assert parameters(network) == expected


def test_cross_entropy_on_two_logits_is_binary_cross_entropy():
    z = torch.tensor([[-3.0], [0.0], [0.5], [20.0]], dtype=torch.float64)
    logits = architectures.TwoLogits()(z)
    assert logits.tolist() == [[0, -3.0], [0, 0.0], [0, 0.5], [0, 20.0]]
    for label in (0, 1):
        y = torch.full((4,), label)
        binary = nn.functional.binary_cross_entropy_with_logits(z[:, 0], y.double())
        assert torch.allclose(nn.functional.cross_entropy(logits, y), binary, rtol=1e-12)


def test_wide_resnets_have_the_published_numbers_of_parameters():
    # Zagoruyko & Komodakis 2016, tables 4 and 5, in millions
    for depth, width, millions in ((40, 1, 0.6), (16, 8, 11.0), (28, 10, 36.5), (40, 4, 8.9)):
        with torch.device("meta"):
            network = architectures.wide_resnet(
                (3, 32, 32), 10, depth=depth, width=width, dropout=0
            )
        assert round(parameters(network) / 1e6, 1) == pytest.approx(millions, abs=0.051)


def test_wide_resnet_learns_and_drops_out_in_training_only():
    torch.manual_seed(0)
    network = architectures.wide_resnet((1, 8, 8), 2, depth=10, width=1, dropout=0.3)
    labels = torch.arange(32) % 2
    x = torch.rand(32, 1, 8, 8) + labels[:, None, None, None]
    assert not torch.equal(network(x), network(x))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(10):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()
    network.eval()
    assert torch.equal(network(x), network(x))
    assert (network(x).argmax(1) == labels).all()


@pytest.mark.parametrize("name", TORCHVISION)
def test_colour_networks_are_torchvisions_own(name):
    size = max(64, REGISTRY[name].min_size)
    ours = hollow(name, size, channels=3, classes=1000)
    with torch.device("meta"):
        theirs = load_torchvision().models.get_model(name, weights=None)
    assert parameters(ours) == parameters(theirs) == TORCHVISION[name]
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in theirs.state_dict().items()
    ]


def test_weights_and_logits_are_those_of_torchvision_for_the_same_seed():
    ours = build("resnet18", shape=(3, 32, 32), classes=10, mean=0.0, std=1.0, seed=5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        theirs = load_torchvision().models.resnet18(num_classes=10).eval()
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.parametrize("channels", [1, 4])
def test_first_convolution_takes_the_channels_of_the_data(name, channels):
    other, colour = (list(layers(hollow(name, channels=c)).values()) for c in (channels, 3))
    assert other[0].in_channels == channels
    assert str(other[0]) == str(colour[0]).replace("Conv2d(3,", f"Conv2d({channels},")
    assert list(map(str, other[1:])) == list(map(str, colour[1:]))


@pytest.mark.parametrize("name", ["small_conv", "lsa_moons", "shufflenet_v2_x1_0"])
def test_the_seed_alone_decides_the_weights(name):
    torch.manual_seed(1)
    first = fresh(name, seed=3)
    torch.manual_seed(2)
    again, other = fresh(name, seed=3), fresh(name, seed=4)
    for path, layer in layers(first).items():
        assert torch.equal(layer.weight, layers(again)[path].weight)
        assert not torch.equal(layer.weight, layers(other)[path].weight)


def test_global_random_state_is_left_alone():
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    fresh("small_conv", seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_layers_of_a_network_and_of_a_plain_module():
    network = fresh("small_resnet", size=8)
    assert list(layers(network)) == [
        "conv1",
        "layer1.conv1",
        "layer1.conv2",
        "layer2.conv1",
        "layer2.conv2",
        "layer2.downsample.0",
        "layer3.conv1",
        "layer3.conv2",
        "layer3.downsample.0",
        "fc",
    ]
    assert layers(network)["layer1.conv1"] is network.body.layer1.conv1
    plain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert layers(plain) == {"0": plain[0], "2": plain[2]}


@pytest.mark.parametrize("name", NAMES)
def test_layers_run_in_the_order_of_definition_under_fx(name):
    body = hollow(name)
    traced = torch.fx.symbolic_trace(architectures.Network(nn.Identity(), body))
    called = [str(node.target).removeprefix("body.") for node in traced.graph.nodes]
    layers_called = [target for target in called if target in layers(body)]
    assert layers_called == [name for name in layers(body) if name in layers_called]


@pytest.mark.parametrize("name", LIGHT)
def test_traced_network_computes_the_same(name):
    network = fresh(name)
    x = torch.rand(2, *shape_of(name, REGISTRY[name].min_size))
    assert torch.equal(torch.fx.symbolic_trace(network)(x), network(x))


@pytest.mark.parametrize("name", NAMES)
def test_the_output_of_a_layer_is_not_overwritten(name):
    assert not any(getattr(module, "inplace", False) for module in hollow(name).modules())


def forward_both_modes(name, size):
    body = hollow(name, size)
    x = torch.zeros(2, *shape_of(name, size), device="meta")
    return body.train()(x).shape, body.eval()(x).shape


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", NAMES)
def test_min_size_is_the_smallest_that_works(name):
    smallest = REGISTRY[name].min_size
    assert forward_both_modes(name, smallest) == ((2, classes_of(name)),) * 2
    if smallest > 1:
        with pytest.raises(RuntimeError):
            forward_both_modes(name, smallest - 1)


def test_catalogue_file_is_up_to_date():
    assert BUILTIN_FILE.read_text(encoding="utf-8") == inspect.catalogue_text(), (
        "networks.json is out of date: run `python -m faultline.networks` inside workflow/"
    )


def test_catalogue_facts():
    facts = catalogue()
    assert json.loads(inspect.catalogue_text()) == facts
    assert facts["small_conv"] == {
        "input": "image",
        "min_size": 2,
        "parameters": 14674,
        "layers": [
            ["conv1", "conv", 16],
            ["bn1", "norm", 16],
            ["conv2", "conv", 32],
            ["bn2", "norm", 32],
            ["conv3", "conv", 32],
            ["bn3", "norm", 32],
            ["fc", "linear", "classes"],
        ],
        "work": facts["small_conv"]["work"],  # tests/networks/test_work.py
    }
    assert facts["lsa_moons"]["input"] == "vector"
    assert facts["lsa_moons"]["layers"][-1] == ["fc4", "linear", 1]
    assert facts["squeezenet1_1"]["layers"][-1] == ["classifier.1", "conv", "classes"]
    outputs = [row[2] for network in facts.values() for row in network["layers"]]
    assert outputs.count("classes") == len(NAMES) - 1


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", NAMES)
def test_of_the_built_in_networks_only_normalisations_are_not_seen(name):
    """So that nothing is said of them, see `coverage.told`."""
    body = hollow(name, max(REGISTRY[name].min_size, 32)).eval()
    inputs = torch.zeros(1, *shape_of(name, max(REGISTRY[name].min_size, 32)), device="meta")
    found = reach(body, [inputs])
    assert found.layers == {*layers(body, norms=True)}
    found = inspect.coverage(body, found)
    assert {why for *_, why in found["unseen"]} <= {"norm"}
    assert sum(row[2] for row in found["unseen"]) < 0.02 * found["parameters"]


@pytest.mark.parametrize(
    ("name", "shape", "classes", "parts"),
    [
        ("resnet81", (3, 32, 32), 10, ["'resnet81'", "'resnet18'", "not known"]),
        ("alexnet", (1, 28, 28), 10, ["'alexnet'", "28x28", "63x63"]),
        ("lsa_mnist", (1, 8, 3), 10, ["'lsa_mnist'", "8x3", "4x4"]),
        ("small_conv", (2,), 2, ["'small_conv'", "2 features", "takes images"]),
        ("small_conv", (3, 20), 2, ["'small_conv'", "signals of 20 steps", "takes images"]),
        ("lsa_moons", (1, 8, 8), 2, ["'lsa_moons'", "8x8", "takes vectors"]),
        ("lsa_moons", (2,), 3, ["'lsa_moons'", "2 classes", "have 3"]),
    ],
)
def test_refusals(name, shape, classes, parts):
    with pytest.raises(UserError) as refusal:
        build(name, shape=shape, classes=classes, mean=0.0, std=1.0, seed=0)
    message = str(refusal.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message
