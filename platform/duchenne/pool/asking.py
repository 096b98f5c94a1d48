"""Asks for many things, a window of them at a time: who asks and who answers hold no more than that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Window(Generic[Asked, Answer]):
    """
    Args:
        limit: how many are asked for and not answered, at most.
        send: asks for one; what it returns stands for the answer until that is there.
        wait: given what `send` returned, (those that are there, the others), one at least of the former.
        get: the answer that is there.
    """

    def __init__(
        self,
        limit: int,
        send: Callable[[Asked], Any],
        wait: Callable[[list[Any]], tuple[list[Any], list[Any]]],
        get: Callable[[Any], Answer],
    ) -> None:
        self._limit = limit
        self._send = send
        self._wait = wait
        self._get = get

    def run(self, wanted: Iterable[Asked]) -> list[Answer]:
        """The answers, in the order of what was wanted; `wanted` is read no further than there is room."""
        answers: dict[int, Answer] = {}
        places: dict[Any, int] = {}
        for place, one in enumerate(wanted):
            if len(places) >= self._limit:
                self._take(places, answers)
            places[self._send(one)] = place
        while places:
            self._take(places, answers)
        return [answers[place] for place in sorted(answers)]

    def _take(self, places: dict[Any, int], answers: dict[int, Answer]) -> None:
        there, _ = self._wait(list(places))
        for one in there:
            answers[places.pop(one)] = self._get(one)
