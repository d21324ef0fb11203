"""The breaker around a server that may be away, on a clock of the test's own."""

from memory.milvus.breaker import Breaker


def test_it_opens_after_failures_in_a_row_lets_one_trial_through_and_closes_with_a_success() -> None:
    now = 0.0
    breaker = Breaker(failures=3, open_s=2.0, clock=lambda: now)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()  # not in a row
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert breaker.is_open
    assert not breaker.allows()
    now = 2.5
    assert [breaker.allows() for _ in range(3)] == [True, False, False]  # one trial, not a herd
    breaker.failed()
    now = 4.0
    assert not breaker.allows()
    now = 4.6
    assert breaker.allows()
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.allows()
