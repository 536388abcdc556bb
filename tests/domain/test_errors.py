import inspect

from domain import errors


def test_every_error_is_a_revet_error_and_says_when_it_is_raised():
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        assert issubclass(kind, errors.RevetError), name
        assert kind.__doc__, name


def test_the_overview_names_every_error():
    for name, _ in inspect.getmembers(errors, inspect.isclass):
        assert name in (errors.__doc__ or ""), name
