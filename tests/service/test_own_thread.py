"""A call in a thread of its own: its result or its error, a thread that has ended, and nothing left behind."""

import gc
import threading
import weakref

import pytest

from service.pipeline.own_thread import in_its_own_thread


class Thing:
    """Can be referred to weakly."""


def test_the_result_comes_from_a_thread_that_has_ended() -> None:
    thread = in_its_own_thread(threading.current_thread, "some-name")
    assert thread.name == "some-name"
    assert not thread.is_alive()


def test_an_error_is_raised_here_and_leaves_no_cycle() -> None:
    things = []

    def fail() -> None:
        thing = Thing()
        things.append(weakref.ref(thing))
        raise ValueError(thing)

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ValueError, match="Thing") as caught:
            in_its_own_thread(fail, "some-name")
        caught.value.__traceback__ = None
        caught.value.args = ()
        del caught
        assert things[0]() is None
    finally:
        gc.enable()
