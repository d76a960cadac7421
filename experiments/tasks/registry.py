"""All tasks, by the names that choose them in a spec."""

from typing import Annotated

from pydantic import Field

from experiments.tasks.circles import Circles
from experiments.tasks.contract import AbstractTask, Kind
from experiments.tasks.gaussian import GaussianInputs, GaussianRegression, TeacherStudent
from experiments.tasks.real import Digits, Mnist

Task = Annotated[
    Digits | Circles | TeacherStudent | GaussianRegression | GaussianInputs | Mnist, Field(discriminator="name")
]

TASKS: dict[str, type[AbstractTask]] = {
    task.model_fields["name"].default: task
    for task in (Digits, Circles, TeacherStudent, GaussianRegression, GaussianInputs, Mnist)
}


def of_kind(kind: Kind) -> list[str]:
    """The names of all tasks whose targets are of this kind."""
    return [name for name, task in TASKS.items() if task.kind == kind]
