import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import FeatureSpaceError
from domain.features import load_feature_space, parse_feature_space

SPACE = """
version: 1
name: flows
features:
  - {name: sent, kind: integer, high: 1000, transform: log1p, mutability: increase-only}
  - {name: protocol, kind: categorical, categories: [tcp, udp], reason: the service dictates it}
  - {name: total, kind: integer, high: 2000, mutability: {weak: fixed, expected: free, strong: free}, reason: follows}
relations: [sent <= total]
"""


def test_one_word_of_mutability_stands_for_all_levels():
    space = parse_feature_space(SPACE, "flows.yaml")
    assert space.features[0].mutability == {
        "weak": "increase-only",
        "expected": "increase-only",
        "strong": "increase-only",
    }
    assert space.encoded_width == 4


def test_a_space_survives_writing_and_reading_with_its_digest():
    space = parse_feature_space(SPACE, "flows.yaml")
    again = parse_feature_space(yaml.safe_dump(space.model_dump(mode="json")), "again.yaml")
    assert again == space
    assert again.digest == space.digest


def test_the_digest_moves_with_any_change():
    changed = parse_feature_space(SPACE.replace("high: 2000", "high: 2001"), "flows.yaml")
    assert changed.digest != parse_feature_space(SPACE, "flows.yaml").digest


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("high: 1000", "high: -1", "low < high"),
        ("high: 1000", "high: .nan", "low < high"),
        ("high: 1000", "high: .inf", "low < high"),
        ("reason: the service dictates it", "reason: ''", "'protocol' is fixed"),
        ("categories: [tcp, udp]", "categories: []", "distinct categories"),
        ("categories: [tcp, udp]", "categories: [tcp, tcp]", "distinct categories"),
        ("high: 2000", "categories: [x]", "only categorical features have categories"),
        ("name: total", "name: sent", "repeated: \\['sent'\\]"),
        ("sent <= total", "sent <= totl", "'totl'"),
        ("sent <= total", "protocol <= total", "categorical features \\['protocol'\\]"),
        ("weak: fixed, expected: free, strong: free", "weak: free, expected: fixed, strong: free", "stronger attacker"),
        ("weak: fixed, expected: free, strong: free", "weak: fixed, expected: free", "missing \\['strong'\\]"),
        ("transform: log1p", "transform: log1p, low: -2", "log1p"),
        ("kind: integer, high: 2000", "kind: binary, high: 2", "binary feature has bounds 0 and 1"),
        ("high: 2000", "high: 2000, cost: 0", "costs must be positive"),
        ("high: 2000", "high: 2000, hihg: 1", "hihg"),
        ("categories: [tcp, udp]", "categories: [tcp, udp], mutability: increase-only", "no order"),
        ("version: 1", "version: 2", "version"),
        ("name: flows", "name: Flows", "name"),
    ],
)
def test_a_faulty_space_is_refused_with_file_and_fault(old, new, fault):
    assert old in SPACE
    with pytest.raises(FeatureSpaceError, match=fault) as caught:
        parse_feature_space(SPACE.replace(old, new), "flows.yaml")
    assert str(caught.value).startswith("flows.yaml: ")


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "version: 1\nname: x1\nfeatures: []", "\x07"])
def test_text_that_is_no_space_is_refused(text):
    with pytest.raises(FeatureSpaceError, match=r"x\.yaml"):
        parse_feature_space(text, "x.yaml")


def test_every_fault_of_a_file_is_reported_at_once():
    broken = SPACE.replace("high: 1000", "high: -1").replace("reason: follows", "cost: -1")
    with pytest.raises(FeatureSpaceError) as caught:
        parse_feature_space(broken, "flows.yaml")
    assert "'sent'" in str(caught.value)
    assert "'total'" in str(caught.value)


@pytest.mark.parametrize("name", ["nsl-kdd", "url-phishing", "phishtank"])
def test_shipped_spaces_load_and_give_a_strong_attacker_more_to_move(name):
    space = load_feature_space(name)
    movable = [sum(f.mutability[level] != "fixed" for f in space.features) for level in ("weak", "expected", "strong")]
    assert movable == sorted(movable)
    assert 0 < movable[0] < movable[2]


def test_an_unknown_space_is_refused_with_the_shipped_names(tmp_path):
    with pytest.raises(FeatureSpaceError, match="url-phishing"):
        load_feature_space("no-such-space", tmp_path)


def test_a_space_is_loaded_from_a_path_beside_the_monitor(tmp_path):
    (tmp_path / "mine.yaml").write_text(SPACE, encoding="utf-8")
    assert load_feature_space("mine.yaml", tmp_path).name == "flows"


scalars = st.none() | st.booleans() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(values)
def test_any_value_in_place_of_the_features_is_refused_as_a_fault_of_the_file(value):
    text = yaml.safe_dump({"version": 1, "name": "xx", "features": value})
    with pytest.raises(FeatureSpaceError, match=r"^x\.yaml: "):
        parse_feature_space(text, "x.yaml")
