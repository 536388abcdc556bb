import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import RelationError
from domain.relations import Binary, Comparison, Constant, Expression, Implication, Reference, parse_relation

NAMES = ("a", "b", "length_url")


def written(expression: Expression) -> str:
    match expression:
        case Constant(value=value):
            return repr(value)
        case Reference(name=name):
            return name
        case Binary(op=op, left=left, right=right):
            return f"({written(left)} {op} {written(right)})"


numbers = st.floats(min_value=0, max_value=1e9, allow_nan=False).map(Constant)
features = st.integers(0, 2).map(lambda index: Reference(index, NAMES[index]))
expressions = st.recursive(
    numbers | features,
    lambda inner: st.builds(Binary, st.sampled_from("+-*/"), inner, inner),
    max_leaves=8,
)
comparisons = st.builds(Comparison, st.sampled_from(["<=", ">=", "=", "<", ">"]), expressions, expressions)


def text_of(comparison: Comparison) -> str:
    return f"{written(comparison.left)} {comparison.op} {written(comparison.right)}"


@settings(max_examples=30, deadline=None)
@given(comparisons)
def test_a_written_comparison_parses_back_to_itself(comparison):
    assert parse_relation(text_of(comparison), NAMES).rule == comparison


@settings(max_examples=30, deadline=None)
@given(comparisons, comparisons)
def test_a_written_implication_parses_back_to_itself(premise, conclusion):
    parsed = parse_relation(f"{text_of(premise)} => {text_of(conclusion)}", NAMES)
    assert parsed.rule == Implication(premise, conclusion)


def test_references_name_every_feature_of_both_sides():
    assert parse_relation("a > 0 => b + length_url > 0", NAMES).references == {0, 1, 2}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=>",
        "a",
        "a <= b <= length_url",
        "a <= 1 => b <= 1 => a <= 2",
        "__import__('os').system('true') <= 1",
        "a.real <= 1",
        "a[0] <= 1",
        "(lambda: 1)() <= a",
        "a ** 9 ** 9 ** 9 <= 1",
        "a // 2 <= 1",
        "a <= 'x'",
        "a <= True",
        "a <= 1j",
        "a != b",
        "a := 1",
        "f'{a}' <= 1",
        "[x for x in a] <= 1",
        "a <= 1; b <= 1",
        "a <= 1\nimport os",
        "a <= \x00",
        "a if b else 1 <= 2",
        "~a <= 1",
        "not a <= 1",
    ],
)
def test_a_text_outside_the_language_is_refused_with_the_text_named(text):
    with pytest.raises(RelationError, match="relation"):
        parse_relation(text, NAMES)


def test_an_unknown_feature_is_named():
    with pytest.raises(RelationError, match="'lenght_url'"):
        parse_relation("lenght_url <= 1", NAMES)


@pytest.mark.parametrize("depth", [500, 900, 1500, 4500])
@pytest.mark.parametrize("shape", ["{}a <= 1", "a{} <= 1"])
def test_deep_nesting_is_refused_and_never_crashes(shape, depth):
    text = shape.format(("-" if shape.startswith("{") else " + a") * depth)
    with pytest.raises(RelationError):
        parse_relation(text, NAMES)


def test_a_sum_of_three_hundred_terms_is_fine():
    assert parse_relation("a" + " + b" * 300 + " <= length_url", NAMES).references == {0, 1, 2}


@pytest.mark.parametrize("number", ["1e999", "9" * 400, "-1e400"])
def test_a_number_that_no_float_holds_is_refused(number):
    with pytest.raises(RelationError, match="finite"):
        parse_relation(f"a <= {number}", NAMES)


def test_an_endless_text_is_refused_by_its_length():
    with pytest.raises(RelationError, match="20000 characters"):
        parse_relation("a + " * 10_000 + "a <= 1", NAMES)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_parses_or_raises_a_relation_error(text):
    try:
        relation = parse_relation(text, NAMES)
    except RelationError:
        return
    assert relation.text == text
    assert relation.references <= set(range(len(NAMES)))
