"""What has to stay the same from phase to phase, so that the state of one is that of the next."""

from collections.abc import Sequence

from dynamics.errors import PlasticodeError
from experiments.points.assemble import Plan
from experiments.spec.grid import Group
from experiments.spec.spec import Spec
from experiments.tasks.contract import Data


def check_alike(spec: Spec, data: Sequence[Data]) -> Data:
    """The data of the first phase; refused where the network of another would be one of other sizes."""

    def shape(one: Data) -> tuple[str, ...]:
        outputs = 0 if one.train_targets is None else one.train_targets.shape[1]
        frames = f"{one.frames} {'' if one.interpolation == 'held' else f'{one.interpolation} '}frames"
        return f"{one.train_inputs.shape[1]} inputs", f"{outputs} outputs", frames, one.kind

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
    Windows remember waveforms at nodes that lie where their lags, and all that settles, have put them.
    """
    if not plan.history:
        return
    by_windows, kept = not plan.integrator.explicit, "constant lags remember the time before"
    instead = f"{kept}: delays.stages gives lags that need no memory"
    if changes_task:
        raise PlasticodeError(f"phases that change the task are not allowed with delays, as {instead}")
    times = {path for path, number in plan.spec.rule.numbers().items() if number.quantity.time}
    for path in group.values:
        by_steps = path in ("stimulus.duration", "stimulus.gap")
        moves = path.startswith("delays.") or path == "timescales.propagation" or path in times
        if (by_steps or (by_windows and moves)) and any((v[path] != group.values[path]).any() for v in group.later):
            how = instead if by_steps else f"windows with {kept}: integrator.name must be heun or euler"
            raise PlasticodeError(f"{path} may not differ between phases, as {how}")
