from __future__ import annotations

import pytest

from domain.errors import AttackError
from evaluation.attacks.suites import load_suite, parse_suite

TEXT = "name: mine\nversion: 1\nattacks:\n  - {attack: pgd, steps: 5}\n"


def test_the_quick_suite_ends_with_a_search_that_needs_no_gradient_for_every_norm():
    suite = load_suite("quick")
    for norm in ("linf", "l2"):
        for white_box in (True, False):
            assert not suite.for_threat(norm, white_box=white_box, objects=False)[-1].needs_gradient
    assert [attack.name for attack in suite.for_threat("linf", white_box=False, objects=False)] == ["square", "genetic"]
    assert [attack.name for attack in suite.for_threat("l2", white_box=True, objects=True)] == ["url-search"]


def test_the_digest_follows_every_parameter():
    assert parse_suite(TEXT, "here").digest == parse_suite(TEXT + "\n", "there").digest
    assert parse_suite(TEXT, "here").digest != parse_suite(TEXT.replace("5", "6"), "here").digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.replace("pgd", "magic"), "unknown attack 'magic'"),
        (TEXT.replace("steps", "strides"), "'pgd' does not take"),
        ("- pgd", "a mapping with name, version and attacks"),
        ("name: [", "not valid YAML"),
    ],
)
def test_a_wrong_suite_names_the_fault(text, message):
    with pytest.raises(AttackError, match=message):
        parse_suite(text, "here")


def test_an_unknown_suite_names_the_known_ones():
    for name in ("nightly", "../quick"):
        with pytest.raises(AttackError, match="quick"):
            load_suite(name)


def test_a_suite_without_a_fitting_attack_is_refused():
    with pytest.raises(AttackError, match="no attack for norm"):
        parse_suite(TEXT, "here").for_threat("linf", white_box=False, objects=False)
