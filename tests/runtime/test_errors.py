"""Errors of tasks that run together."""

from runtime.errors import MissingExtra, NoSuchAddress, RuntimeFault, first_of


def test_the_one_error_that_ended_all_tasks_is_found_however_deep() -> None:
    error = NoSuchAddress("here")
    group = ExceptionGroup("", [ExceptionGroup("", [error, MissingExtra(extra="desk", module="apprise")])])

    assert first_of(group, RuntimeFault) is error


def test_an_unforeseen_error_beside_it_is_not_hidden() -> None:
    group = ExceptionGroup("", [NoSuchAddress("here"), ZeroDivisionError()])

    assert first_of(group, RuntimeFault) is None
