"""Work on large arrays is shared among threads, in order, once, and its errors are raised."""

from __future__ import annotations

import threading

import pytest

from converter.core import parallel


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)


def threads(size: int) -> set[int]:
    return set(parallel.mapped(lambda _: threading.get_ident(), range(8), size))


def test_only_large_arrays_are_worth_threads() -> None:
    assert threads(parallel.LARGE - 1) == {threading.get_ident()}
    assert threading.get_ident() not in threads(parallel.LARGE)


def test_results_are_in_order_and_a_thread_starts_no_others() -> None:
    def work(number: int) -> tuple[int, bool]:
        return number, threads(parallel.LARGE) == {threading.get_ident()}

    assert parallel.mapped(work, range(9), parallel.LARGE) == [(number, True) for number in range(9)]


def test_an_error_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        parallel.mapped(lambda number: 1 // number, [1, 0], parallel.LARGE)
