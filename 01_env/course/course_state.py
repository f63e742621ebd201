"""What a learner has done so far, in one file that no repository sees."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from exercise_table import Exercise
from learner_file import Unreadable, fingerprint

from shared.errors import UserError
from shared.files import atomic_file

PLACE = Path(__file__).with_name("progress.json")


@dataclass
class CourseState:
    """Which exercises are finished, which hints were read, where the learner stands."""

    at: str = ""
    """name of the exercise at hand"""
    hints: dict[str, int] = field(default_factory=dict)
    """how many hints of each exercise have been shown"""
    finished: dict[str, str] = field(default_factory=dict)
    """the fingerprint of each function that passed"""

    def is_finished(self, exercise: Exercise) -> bool:
        """Whether it passed and has not been changed since."""
        try:
            written = fingerprint(exercise.file, exercise.name)
        except Unreadable:
            return False
        return self.finished.get(exercise.name) == written

    def note(self, exercise: Exercise, passed: bool) -> None:
        """Remembers a verdict on the function as it is written now."""
        if passed:
            self.finished[exercise.name] = fingerprint(exercise.file, exercise.name)
        else:
            self.finished.pop(exercise.name, None)


def load_state(place: Path = PLACE) -> CourseState:
    """The state on disk, or that of somebody who begins.

    Raises:
        UserError: the file is not as it was written.
    """
    if not place.exists():
        return CourseState()
    try:
        return CourseState(**json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{place} cannot be read ({error}): delete it to begin anew, your code stays"
        ) from error


def save_state(state: CourseState, place: Path = PLACE) -> None:
    """Writes the state, whole or not at all."""
    with atomic_file(place) as partial:
        partial.write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
