import io
from dataclasses import replace

import numpy as np
import pytest

from faultline.ablation.facts import Facts, StoredFacts, pack, unpack
from faultline.base.files import save_arrays
from faultline.base.sampling import ALIKE, Strata


def example(n, v=3, seed=0):
    rng = np.random.default_rng(seed)
    return Facts(
        variants={"filter": np.array(["pulse"] * v), "threshold": rng.normal(size=v)},
        base={"clean": rng.random(n) < 0.5, "pgd:l2": rng.random(n) < 0.5},
        correct={"clean": rng.random((v, n)) < 0.5, "pgd:l2": rng.random((v, n)) < 0.5},
        changed={"clean": np.arange(v), "pgd:l2": np.arange(v) + 7},
        nonfinite={"clean": np.arange(v), "pgd:l2": np.zeros(v, int)},
    )


def assert_equal(one, other):
    for part in ("variants", "base", "correct", "changed", "nonfinite"):
        left, right = getattr(one, part), getattr(other, part)
        assert list(left) == list(right)
        for key in left:
            assert left[key].dtype == right[key].dtype
            assert np.array_equal(left[key], right[key])


def stored(arrays):
    """Through an .npz file and back, without pickles."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    buffer.seek(0)
    return np.load(buffer, allow_pickle=False)


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 1001])
def test_pack_and_unpack(n):
    hits = {"0.1": np.arange(n) % 3 == 0, "clean": np.ones(n, bool), "a:b": np.zeros(n, bool)}
    packed = pack(hits)
    assert packed["bits:clean"].nbytes == -(-n // 8)
    back = unpack(stored(packed))
    assert list(back) == list(hits)
    for name in hits:
        assert back[name].dtype == bool
        assert np.array_equal(back[name], hits[name])


@pytest.mark.parametrize("n", [1, 7, 8, 13])
def test_arrays_and_back(n):
    facts = example(n)
    assert_equal(Facts.from_arrays(facts.arrays()), facts)
    assert_equal(Facts.from_arrays(stored(facts.arrays())), facts)


def test_image_sets_may_differ_in_size():
    facts = example(13)
    facts.base["clean"], facts.correct["clean"] = np.ones(5, bool), np.zeros((3, 5), bool)
    assert_equal(Facts.from_arrays(facts.arrays()), facts)


def test_strata_are_stored_where_there_are_any():
    facts = example(13)
    assert not [key for key in facts.arrays() if key.startswith("strata")]
    assert facts.design is ALIKE and not facts.stands_for
    strata = Strata(np.arange(13) % 3, np.array([10, 20, 300]))
    drawn = replace(facts, strata=strata)
    for back in (
        Facts.from_arrays(stored(drawn.arrays())),
        Facts.concatenate([drawn, drawn]),
    ):
        assert np.array_equal(back.strata.stratum, strata.stratum)
        assert np.array_equal(back.strata.sizes, strata.sizes)
        assert back.design is back.strata and back.stands_for == {"stands_for": 330}


def test_variants_drawn_anew_for_each_part_of_the_images_are_told_as_one():
    # Seven images in two parts: 0, 2, 3 and 6 in the first
    facts, part = example(7), np.array([0, 1, 0, 0, 1, 1, 0])
    first, second = example(4, v=2, seed=1), example(3, v=2, seed=2)
    whole = facts.dealt([first, second], part)
    assert len(whole.variants["filter"]) == 5 and whole.part is part
    assert np.array_equal(whole.correct["clean"][:3], facts.correct["clean"])
    assert np.array_equal(whole.correct["clean"][3:][:, [0, 2, 3, 6]], first.correct["clean"])
    assert np.array_equal(whole.correct["clean"][3:][:, [1, 4, 5]], second.correct["clean"])
    assert whole.changed["pgd:l2"].tolist() == [7, 8, 9, 7 + 7, 8 + 8]
    assert whole.nonfinite["clean"].tolist() == [0, 1, 2, 0, 2]
    assert np.array_equal(whole.base["clean"], facts.base["clean"])
    for back in (Facts.from_arrays(stored(whole.arrays())), Facts.concatenate([whole])):
        assert_equal(back, whole)
        assert np.array_equal(back.part, part)
    assert facts.part is None and Facts.from_arrays(stored(facts.arrays())).part is None


def test_concatenate_keeps_the_order_of_variants():
    parts = [example(13, v=v, seed=v) for v in (2, 1, 4)]
    whole = Facts.concatenate(parts)
    assert whole.variants["threshold"].tolist() == [
        t for part in parts for t in part.variants["threshold"]
    ]
    assert np.array_equal(whole.correct["pgd:l2"][2], parts[1].correct["pgd:l2"][0])
    assert np.array_equal(whole.correct["clean"][3:], parts[2].correct["clean"])
    assert whole.changed["clean"].tolist() == [0, 1, 0, 0, 1, 2, 3]
    assert np.array_equal(whole.base["clean"], parts[0].base["clean"])
    assert_equal(Facts.concatenate(parts[:1]), parts[0])
    assert_equal(Facts.from_arrays(whole.arrays()), whole)


def test_facts_of_layers_are_read_from_their_files_in_order(tmp_path):
    place = "digits/net/standard/seed-3/epoch-2/layers/{}/nodal-dropout/{}.npz"
    parts = {("fc", "0-2"): example(13), ("conv", "0-1"): example(13, v=2, seed=1)}
    parts["fc", "3-4"] = example(13, v=2, seed=2)
    for key, facts in parts.items():
        save_arrays(facts.arrays(), tmp_path / place.format(*key))
    found = StoredFacts([str(tmp_path / place.format(*key)) for key in parts])
    assert [*found] == ["fc", "conv"] and len(found) == 2
    assert_equal(found["conv"], parts["conv", "0-1"])
    assert_equal(found["fc"], Facts.concatenate([parts["fc", "0-2"], parts["fc", "3-4"]]))
    assert not StoredFacts([])
