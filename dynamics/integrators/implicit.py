"""Which weights a sweep of the window integrator takes along while it is made: those that teach themselves at once.

An output error moves the matrix into its own layer, and with it the prediction that it is the error of. That is the
shortest way on which weights act back on what they learn from, and all of it lies in one small layer. So a sweep goes
round it once more by itself; in a network of one layer a sweep is then worth two, and on tanh networks of two and three
layers the error after two sweeps is 5 to 17 times smaller. The limit of the sweeps is the same.

Not beside synaptic noise: how far a second sweep moves there says how fast learning pulls weights back, which is what
the splitting of noise and learning costs.
"""

from dynamics.circuit import LawTerm
from dynamics.field import Key
from dynamics.integrators.drives import fades
from dynamics.integrators.learning import Learning
from dynamics.laws import Outer
from dynamics.settle import evaluation_order, is_cyclic


def taught(learning: Learning) -> tuple[Key, ...]:
    """The fast variables of the output layer, in order, if nothing comes between them, nothing is on a cycle, and they
    teach a matrix that has no noise."""
    circuit = learning.system.circuit
    order = evaluation_order(circuit)
    places = [i for i, (name, _) in enumerate(order) if circuit.layer(name).role == "output"]
    if is_cyclic(circuit) or len(places) < 2 or learning.system.noise.on_synapses:
        return ()
    found = order[places[0] : places[-1] + 1]
    alone = len({name for name, _ in found}) == 1
    return found if alone and teaching(learning, found[0][0]) else ()


def teaching(learning: Learning, layer: str) -> tuple[LawTerm, ...]:
    """The terms that change matrices into `layer` by plain products of what there is now, and nothing fades them: what
    a sweep says of them at its end it then says as soon as the layer is known."""
    circuit, system = learning.system.circuit, learning.system

    def is_plain(term: LawTerm) -> bool:
        name, own = term.owner.name, circuit.map_of(term.owner.name)
        product = isinstance(term.term, Outer) and not term.transposed and system.traced(term) is None
        matrix = own.is_matrix and not own.holds_norm and not learning.at_nodes(name)
        fading = any(map(fades, circuit.terms_of(name))) or name in learning.still_fades
        return product and matrix and not fading

    return tuple(term for term in circuit.terms if term.of.target == layer and is_plain(term))
