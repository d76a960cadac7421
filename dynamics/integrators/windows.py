"""How a presentation is cut into windows and solved, one window at once: parallel in time.

Windows end where an input jumps, so that waveforms are smooth within one; what is late is looked up in the waveforms
of earlier windows. The solver itself is `integrators.window_solver`.
"""

import dataclasses
import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from dynamics.errors import PlasticodeError, refused
from dynamics.field import CoupledSystem, Inputs, Key, Sources, State, key_of
from dynamics.integrators.collocation import MAX_NODES, interpolation, nodes, ornstein_uhlenbeck, weighted
from dynamics.integrators.contract import AbstractIntegrator
from dynamics.integrators.drives import turned
from dynamics.integrators.jumps import Cut, Jump, calmer, in_order, paces
from dynamics.integrators.waveforms import Relaxation, Waves
from dynamics.integrators.window_parts import Course, Doubt, Earlier, Layout, Past, Shown, moved, silent_inputs
from dynamics.integrators.window_solver import Context, Solved, WindowSolver, filters_of
from dynamics.interpolation import Moving
from dynamics.kinks import root, roundoff, with_value
from dynamics.layers import Draw, Layer, Wave
from dynamics.local import AbstractFactor
from dynamics.loop import first
from dynamics.noise import Half, brownian_increments, required_key
from dynamics.projections import Projection
from dynamics.sides import own_key
from dynamics.stimulus import Clock, Stream, mixed, samples
from dynamics.timescales import at_level


class AbstractWindow(AbstractIntegrator):
    """How windows cut a presentation and solve it: `integrators.window.Window` says what its settings mean."""

    tolerance: float = eqx.field(static=True, default=1e-3)
    nodes: int = eqx.field(static=True, default=None)  # type: ignore[assignment]
    parts: int = eqx.field(static=True, default=None)  # type: ignore[assignment]
    settling: float | None = eqx.field(static=True, default=None)
    gaps: bool = eqx.field(static=True, default=None)  # type: ignore[assignment]
    sweeps: int | None = eqx.field(static=True, default=None)
    whole: bool = eqx.field(static=True, default=False)
    strongest: Float[Array, ""] | None = None
    judged: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        if self.nodes is not None and not 1 <= self.nodes <= MAX_NODES:
            raise PlasticodeError(f"a window has {self.nodes} nodes: it must have 1 to {MAX_NODES}")
        if self.parts is not None and self.parts < 1:
            raise PlasticodeError(f"a presentation has {self.parts} parts: it must have at least 1")
        if not 0 < self.tolerance < 1:
            raise refused("tolerance", self.tolerance, "it must be a number > 0 and < 1")

    def start(self, system: CoupledSystem, state: State, periods: int) -> Past | None:
        """The past before the first presentation, of `periods` presentations: everything as it is at the start."""
        shape = (periods * (self.parts + len(self._cuts(system, self._jumps(system)))), self.nodes + 1)
        rows = {name: jnp.broadcast_to(x, (*shape, *x.shape)) for name, x in self._signals(system, state).items()}
        return Past(rows) if rows else None

    def _signals(self, system: CoupledSystem, y: State) -> Sources:
        """Signals that a constant lag looks back at: those of the coupled system that no input determines."""
        looked_up = {key for key, _ in self._lags(system).values()}
        return {key: x for key, x in system.signals(y, silent_inputs(system)).items() if key in looked_up}

    def _lags(self, system: CoupledSystem) -> dict[str, tuple[Key, Float[Array, ""]]]:
        """Constant lags that look back at a signal: by what is late, and "error" for that of the output error."""
        if system.gamma:
            return {}
        looks = {}
        for p, name, factor in system.lagged():
            lag = system.lag(p)
            if lag is not None and not _arrives(system, p, factor):
                looks[name] = (key_of(p, name, factor), lag)
        if "error" in system.lags():
            looks["error"] = ((system.outputs()[0].name, "activity"), system.delays.error)
        return looks

    def _arrivals(self, system: CoupledSystem) -> dict[str, tuple[str, ...]]:
        """The lags, by name, of everything that jumps: "stimulus", "target", layers that are given something else, and
        by name what is late of a layer that is given something."""
        given: dict[str, tuple[str, ...]] = {
            layer.name: () for layer in system.circuit.layers if layer.held and layer.role != "input"
        }
        if system.gamma:
            return {"stimulus": (), "target": ()} | given
        lags = system.lags()
        stimulus = ("input",) if "input" in lags else ()
        arrivals = {"stimulus": stimulus, "target": ("error",) if "error" in lags else ()} | given
        for p, name, factor in system.lagged():
            if _arrives(system, p, factor):
                first = stimulus if system.circuit.layer(p.source).role == "input" else ()
                arrivals[name] = (*first, _hop(p))
        return arrivals

    def _total(self, system: CoupledSystem, names: tuple[str, ...]) -> Float[Array, ""] | None:
        """The sum of named lags."""
        lags = {name: getattr(system.delays, name) for name in ("input", "error", "hop")}
        lags |= {p.name: p.lag for p in system.circuit.projections if p.lag is not None}
        total = [jnp.asarray(lags[name]) for name in names]
        return sum(total[1:], total[0]) if total else None

    def _jumps(self, system: CoupledSystem) -> dict[tuple[str, ...], Jump]:
        """The times within a presentation at which a drive jumps, or has a kink because a late one has jumped."""
        jumps = set(self._arrivals(system).values())
        if not system.gamma:
            lags = system.lags()
            late = {_hop(p) for p, _, _ in system.lagged()} | ({"error"} & set(lags))
            jumps |= {tuple(sorted((*jump, name))) for jump in jumps for name in late}
        clock, gaps, total = system.clock, self.gaps, functools.partial(self._total, system)
        lags = {n: lag for names in jumps for n in names if (lag := total((n,))) is not None}
        pace, none = paces(clock, lags, gaps), jnp.zeros_like(clock.gap)
        pushes = {names: sum((pace[name] for name in names), none) for names in sorted(jumps)}
        return {names: Jump.of(clock, total(names), push, gaps) for names, push in pushes.items()}

    def _cuts(self, system: CoupledSystem, jumps: dict[tuple[str, ...], Jump]) -> list[Cut]:
        """Where windows end, besides the equal parts, and how fast that is pushed (`jumps.paces`)."""
        clock, cuts = system.clock, []
        for jump in jumps.values():
            cuts += jump.cuts()
        zero = jnp.zeros_like(clock.period)
        waves = [layer.source for layer in system.circuit.layers if isinstance(layer.source, Wave)]
        times = [jnp.clip(time, zero, clock.period) for wave in waves for time in wave.jumps]
        named = [(_hop(p), system.lag(p)) for p, _, _ in ([] if system.gamma else system.lagged())]
        late = {name: lag for name, lag in named if lag is not None}
        times += [jnp.mod(time + lag, clock.period) for time in times for lag in late.values()]
        cuts += [(time, zero) for time in times]
        if self.settling is None:
            return cuts
        slowest = self.settling * jnp.max(system.timescales.propagation)
        return cuts + [(jnp.minimum(start + slowest, clock.period), zero) for start in (zero, *(t for t, _ in cuts))]

    def layout(self, system: CoupledSystem, past: Past | None) -> Layout:
        """Windows and filters, the same for every presentation."""
        clock, jumps = system.clock, self._jumps(system)
        cuts = self._cuts(system, jumps)
        even, taken = jnp.asarray(np.arange(self.parts) / self.parts, clock.dt.dtype), None
        if self.strongest is not None and not cuts:
            pace = self.strongest / jnp.min(system.timescales.plasticity)
            even, own = calmer(self.parts, clock.period * pace)
            taken = own if self.sweeps is None else None  # reverse mode needs loops of a known length
        order, start = in_order(clock, even, cuts)
        ends = jnp.concatenate([start[1:], clock.period[None]])
        length = ends - start
        filters = jax.vmap(functools.partial(filters_of, system, s=self.nodes))(length)
        looks = self._lags(system)
        earlier, current, paths = {}, {}, {}
        if past is not None:
            windows = next(iter(past.rows.values())).shape[0]
            for name, (_, lag) in looks.items():
                earlier[name], current[name] = self._look(clock, start, length, lag, windows)
        if system.noise.fluctuations:
            for layer in system.circuit.layers:
                for variable in set(system.circuit.variables(layer)) & set(system.noise.fluctuations):
                    name, tau = _path(system, layer.name, variable)
                    if name not in paths:
                        paths[name] = jax.vmap(functools.partial(_paths_of, tau=tau, s=self.nodes))(length)
        on = self._on(system, jumps, jnp.argsort(order))
        fixed = turned(system.circuit, system.fixed)
        return Layout(start, filters._replace(current=current), earlier, on, paths, fixed, taken)

    def _on(
        self, system: CoupledSystem, jumps: dict[tuple[str, ...], Jump], place: Int[Array, " windows"]
    ) -> dict[str, Float[Array, "windows presentations"]]:
        """Which presentations of every signal are on in which windows; `place` says which window begins at a cut."""
        windows, rows = jnp.arange(place.shape[0]), {}
        behind = iter([windows >= at for at in place[self.parts :]])
        for names, jump in jumps.items():
            off = jnp.zeros_like(windows, bool) if jump.off is None else next(behind)
            on = jnp.ones_like(windows, bool) if jump.on is None else next(behind)
            newer, older = on & (jump.wraps | ~off), ~on & jump.wraps & ~off
            rows[names] = jnp.stack([newer] if jump.on is None else [newer, older], axis=1)
        return {name: rows[names].astype(system.dt.dtype) for name, names in self._arrivals(system).items()}

    def _look(
        self, clock: Clock, start: Float[Array, " windows"], length: Array, lag: Float[Array, ""], earlier: int
    ) -> tuple[Earlier, Float[Array, "windows s points"]]:
        """Which points of earlier windows give the signal `lag` ago, and the weights of those of the window itself."""
        count, s = start.shape[0], self.nodes
        back = np.arange(count)[:, None] - np.arange(earlier, 0, -1)[None]  # oldest first
        periods = jnp.asarray(back // count, start.dtype)
        began = start[back % count] + clock.period * periods
        ends = jnp.concatenate([began[:, 1:], start[:, None]], axis=1)
        c = jnp.asarray(nodes(s), start.dtype)
        times = start[:, None] + length[:, None] * c[None] - lag
        # A window's end looks at the side that its inside looks at: where waveforms have a kink another window starts.
        # An empty window has no inside and looks at the later side: the earlier one may be longer ago than is kept.
        tiny = clock.period * roundoff(lag / clock.period)
        inner = times + jnp.where(length > tiny, -tiny, tiny)[:, None]

        def within(since: Array, length: Array) -> Array:
            x = since / jnp.where(length > 0, length, 1)
            return with_value(jnp.clip(x, 0, 1), x)

        between = jax.vmap(lambda x: interpolation(x, s))
        inside = (inner[..., None] >= began[:, None]) & (inner[..., None] < ends[:, None])
        at = jnp.argmax(inside, axis=2)
        begins, lasts = (jnp.take_along_axis(of, at, 1) for of in (began, ends - began))
        past = jnp.where(inside.any(axis=2)[..., None], between(within(times - begins, lasts)), 0)
        now = between(jax.vmap(within)(times - start[:, None], length))
        now = jnp.where((inner >= start[:, None])[..., None], now, 0)
        return Earlier(at.astype(jnp.int32), past), now

    def arrivals(self, system: CoupledSystem, stream: Stream, k: Int[Array, ""]) -> dict[str, Shown]:
        """Everything that is shown during presentation k, as it arrives."""
        signals, drawn, jumps = {}, {}, self._jumps(system)
        presentations = {names: jump.presentations(k) for names, jump in jumps.items()}
        for name, names in self._arrivals(system).items():
            rows, layer = presentations[names], _shown_of(system, name)
            if layer is not None and isinstance(layer.source, Draw):
                one = functools.partial(layer.source.drawn, stream.key, name=layer.name, size=layer.size)
                drawn[name] = (rows, jax.vmap(one)(stream.draw(rows)))
            else:
                lessons = stream.lessons() if layer is not None and layer.role == "target" else stream.inputs
                signals[name] = (stream.marked_lessons() if name == "target" else lessons, rows)
        shown = zip(signals.items(), samples(list(signals.values()), stream), strict=True)
        every = {name: (rows, values) for (name, (_, rows)), values in shown} | drawn
        maps = {p.name: system.circuit.draws(stream.key, stream.draw(k))[p.name][None] for p in system.circuit.drawn}
        known = {name: Shown(values, (rows >= 0).astype(system.dt.dtype)) for name, (rows, values) in every.items()}
        target, told = stream.parted(known["target"].values)
        known["target"] = Shown(target, known["target"].begun * told)
        for name in [name for name, (values, _) in signals.items() if stream.moves and values is stream.inputs]:
            begin, length = jumps[self._arrivals(system)[name]].begin(system.clock), system.clock.duration
            known[name] = known[name]._replace(moving=Moving(known[name].values, begin, length, stream.interpolation))
        return known | {name: Shown(theta, jnp.ones(1, system.dt.dtype)) for name, theta in maps.items()}

    def present(
        self,
        system: CoupledSystem,
        layout: Layout,
        course: Course,
        shown: dict[str, Shown],
        k: Int[Array, ""],
        key: PRNGKeyArray | None,
        report: Callable[[Relaxation, Waves], PyTree] | None = None,
    ) -> tuple[Course, Doubt, PyTree]:
        """Presentation k, window by window; what is known of the error, and a report of each window. Noise depends on
        `key` and the window's number."""
        count, fixed = layout.start.shape[0], layout.turned
        # Learning that is too fast for one window turns back within a presentation: what parts leave adds up.
        share = 2 if self.parts > 1 and not system.noise.present else 1
        solver = WindowSolver(self.nodes, self.tolerance / share, self.sweeps)

        def one(course: Course, at: tuple[Int[Array, ""], Layout]) -> tuple[Course, tuple[Doubt, PyTree]]:
            i, layout = at[0], at[1]._replace(turned=fixed)
            window_key = None if key is None else jax.random.fold_in(key, k * count + i)
            y, sums, past, owed = self._kicked(system, layout, course, window_key, after=False)
            inputs, context = self._context(system, layout, y, past, shown, window_key)
            window, solved = solver.solve(system, y, inputs, context._replace(owed=owed))
            weights, sums = sums.plus(y.weights, window.changes_at(solved.waves.drive))
            owed = owed.followed_by(window.learning.factors(solved.waves.drive), k, i)
            past = None if past is None else self._remember(past, window, solved.waves)
            end = Course(window.end(solved.waves, weights), sums, past, owed)
            end = self._kicked(system, layout, end, window_key, after=True)
            told = None if report is None else report(window, solved.waves)
            return end, (self._doubt(system, layout, window, solved, alone=count == 1), told)

        every = jnp.arange(count, dtype=jnp.int32), layout._replace(turned={}, taken=None)
        if layout.taken is None or report is not None:
            end, (doubts, reports) = jax.lax.scan(one, course, every)
            doubt = jax.tree.map(jnp.sum, doubts)
        else:
            end, (doubt, reports) = first(layout.taken, one, course, every)
        if count > 1:
            doubt = doubt._replace(moved=moved(course, end, k, jnp.zeros_like(doubt.moved)))
        return end.paid_at(k).settled_at(k), doubt, reports

    def _doubt(self, system: CoupledSystem, layout: Layout, window: Relaxation, solved: Solved, alone: bool) -> Doubt:
        """What is known of one window; `alone` says that it is a whole presentation.

        The splitting of noise is of second order in lambda H, lambda being the rate at which learning pulls a weight
        back: a taught weight's variance is too large by lambda H coth(lambda H) - 1, about (lambda H)^2 / 3, which is
        the square of how far the first correction has moved the drives.
        """
        length = layout.filters.length
        weak = jnp.square(solved.second) if system.noise.on_synapses else jnp.zeros_like(length)
        moved = window.moved(solved.waves.drive, solved.size) if alone else jnp.zeros_like(length)
        return Doubt(moved, solved.left * length * solved.size, weak * length / system.clock.period)

    def _context(
        self,
        system: CoupledSystem,
        layout: Layout,
        y: State,
        past: Past | None,
        shown: dict[str, Shown],
        key: PRNGKeyArray | None,
    ) -> tuple[Inputs, Context]:
        """What the outside, the past and the noise give in one window."""
        c = jnp.asarray(nodes(self.nodes), layout.start.dtype)
        # A window's end is the time before the jump that it is cut at.
        times = layout.start + layout.filters.length * c - 8 * jnp.finfo(c.dtype).eps * system.clock.period
        maps = {p.name: shown[p.name].values[0] for p in system.circuit.drawn}
        on = {name: layout.on[name] * signal.begun for name, signal in shown.items() if name not in maps}
        at = {name: mixed(share, shown[name].at(layout.start)) for name, share in on.items()}
        layers = {layer.name for layer in system.circuit.layers}
        given = {name: value for name, (value, _) in at.items() if name in layers}
        late = {name: value[None] for name, (value, _) in at.items() if name not in ("stimulus", "target", *given)}
        late |= {name: shown[name].course(share, times) for name, share in on.items() if shown[name].moving is not None}
        lags, rows = self._lags(system), {} if past is None else past.rows
        earlier = {name: look.of(rows[lags[name][0]]) for name, look in layout.past.items()}
        context = Context(layout.filters, late, earlier, self._paths(system, y, layout, key), times, layout.turned)
        return Inputs(at["stimulus"][0], *at["target"], given | maps, layout.start), context

    def _remember(self, past: Past, window: Relaxation, waves: Waves) -> Past:
        rows = {}
        for key, old in past.rows.items():
            new = jnp.concatenate([window.start_of(key)[None], waves.value[key]])
            rows[key] = jnp.concatenate([old[1:], new[None]])
        return Past(rows)

    def _paths(self, system: CoupledSystem, y: State, layout: Layout, key: PRNGKeyArray | None) -> dict:
        """Ornstein-Uhlenbeck paths from 0 of all noisy activities and errors, exact at the nodes."""
        levels = system.noise.fluctuations
        noisy = {
            (name, variable): jnp.zeros((self.nodes, x.shape[0]), x.dtype)
            for variable in levels
            for name, x in y.fast[variable].items()
        }
        if not noisy:
            return {}
        draws = brownian_increments(required_key(own_key(key, system.sides)), noisy, jnp.ones_like(system.dt))
        return {
            (name, variable): levels[variable] * weighted(layout.paths[_path(system, name, variable)[0]], g)
            for (name, variable), g in draws.items()
        }

    def _kicked(
        self, system: CoupledSystem, layout: Layout, course: Course, key: PRNGKeyArray | None, after: bool
    ) -> Course:
        """The course with half of a window's synaptic noise: one half comes before it and one after (weak order 2).

        Both halves of additive noise together have the exact variance where a matrix does nothing but decay; those of
        multiplicative noise are exact.
        """
        kinds, h = list(system.noise.on_synapses.values()), layout.filters.length
        if not kinds:
            return course
        weights, sums = course.state.weights, course.sums
        key = jax.random.fold_in(required_key(key), int(after))
        draws = brownian_increments(key, {kind.draws[1]: weights for kind, _ in kinds}, jnp.ones_like(h))
        within = {n: system.circuit.map_of(n).within for n in weights}
        halves = {n: Half(h, self._half(system, n, h, after), system.noise.calculus) for n in weights}
        for kind, level in kinds if after else reversed(kinds):
            draw = draws[kind.draws[1]]
            change = {n: within[n](kind.change(level, w, draw[n], halves[n])) for n, w in weights.items()}
            weights, sums = sums.plus(weights, change)
        return course._replace(state=dataclasses.replace(course.state, weights=weights), sums=sums)

    def _half(self, system: CoupledSystem, name: str, h: Float[Array, ""], after: bool) -> Float[Array, ""]:
        """The standard deviation of half a window's additive noise of unit size on matrix `name`.

        With E = exp(-h/tau_dec) the variances are tau_dec (1 - E) / 2 before the window, and (1 + E - E^2) times that
        after it: together tau_dec (1 - E^2) / 2 at its end, which is exact, and h/2 each where nothing decays.
        """
        p, decay = system.circuit.projection(name), system.timescales.decay
        own = system.circuit.map_of(name)
        if decay is None or not own.decays or own.holds_norm:
            return root(h / 2)
        rate = 1 / at_level(decay, p.level)
        faded = -jnp.expm1(-h * rate)  # 1 - E
        before = jnp.where(rate > 0, faded / jnp.where(rate > 0, 2 * rate, 1), h / 2)
        return root(before * (1 + faded * (1 - faded)) if after else before)


def _arrives(system: CoupledSystem, p: Projection, factor: AbstractFactor) -> bool:
    """Whether what `p` delivers late is held constant as long as it is shown: a factor of a given activity alone."""
    layer = system.circuit.layer(p.source)
    return layer.held and system.circuit.reads(factor, layer).activity_alone


def _shown_of(system: CoupledSystem, name: str) -> Layer | None:
    """The layer that what arrives under `name` is the activity of; None of the stimulus and target themselves."""
    if name in ("stimulus", "target"):
        return None
    sources = {late: p.source for p, late, _ in system.lagged()}
    return system.circuit.layer(sources.get(name, name))


def _path(system: CoupledSystem, layer: str, variable: str) -> tuple[str, Float[Array, "*size"]]:
    """What the paths of a noisy variable are called, so that equal ones are made once, and their time constant."""
    of = system.circuit.layer(layer)
    v = system.circuit.variables(of)[variable]
    return (f"{of.level}" if v.timescale is None else f"{variable} of {layer}"), system.tau(of, v)


def _paths_of(length: Float[Array, ""], tau: Float[Array, "*size"], s: int) -> Float[Array, "*n s s"]:
    """What makes Ornstein-Uhlenbeck paths of normal draws in a window."""
    ratio = length / tau
    return ornstein_uhlenbeck(ratio, s) if ratio.ndim == 0 else jax.vmap(lambda r: ornstein_uhlenbeck(r, s))(ratio)


def _hop(p: Projection) -> str:
    """The name of the lag of a projection: its own, or the common one."""
    return "hop" if p.lag is None else p.name
