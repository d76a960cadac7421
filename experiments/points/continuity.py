"""What has to stay the same from phase to phase, so that the state of one is that of the next."""

from collections.abc import Sequence

import numpy as np

from dynamics.errors import PlasticodeError, refused
from experiments.points.assemble import Plan
from experiments.spec.grid import Group
from experiments.spec.spec import Spec
from experiments.tasks.contract import Data


def check_alike(spec: Spec, data: Sequence[Data]) -> Data:
    """The data of the first phase; refused where the network of another would be one of other sizes."""

    def shape(one: Data) -> tuple[str, ...]:
        outputs = 0 if one.train_targets is None else one.train_targets.shape[1]
        return f"{one.train_inputs.shape[1]} inputs", f"{outputs} outputs", f"{one.frames} frames", one.kind

    for number, one in enumerate(data):
        if shape(one) != shape(data[0]):
            first, other = (", ".join(shape(each)) for each in (data[0], one))
            raise PlasticodeError(
                f"in phase '{spec.phases[number].named(number)}': its task has {other}, and that of the first phase "
                f"{first}: all phases must have the same"
            )
    return data[0]


def check_memory_of_phases(group: Group, plan: Plan, changes_task: bool) -> None:
    """Refuses phases that would change what is still on its way to the network, where lags are constant.

    A buffer remembers steps, which would last longer or shorter than they did, and late samples are those of one task.
    """
    if not plan.history:
        return
    instead = "constant lags remember the time before: delays.stages gives lags that need no memory"
    if changes_task:
        raise PlasticodeError(f"phases that change the task are not allowed with delays, as {instead}")
    for key in ("stimulus.duration", "stimulus.gap"):
        for number, values in enumerate(group.later, start=1):
            if (values[key] != group.values[key]).any():
                value = f"{float(np.ravel(values[key])[0]):g} s"
                raise refused(f"phases.{plan.spec.phases[number].named(number)}.set.{key}", value, instead)
