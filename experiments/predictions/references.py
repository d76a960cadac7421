"""The papers whose claims are tested, by the bibtex key that a prediction's source begins with."""

REFERENCES = {
    "bacvanski2025continuous": (
        "@article{bacvanski2025continuous, title={On Biologically Plausible Learning in Continuous Time}, "
        "author={Bacvanski, Marc Gong and Ziyin, Liu and Poggio, Tomaso}, journal={arXiv:2510.18808}, year={2025}}"
    ),
    "ninou2025curl": (
        "@inproceedings{ninou2025curl, title={Curl Descent: Non-Gradient Learning Dynamics with Sign-Diverse "
        "Plasticity}, author={Ninou, Hugo and Kadmon, Jonathan and Cayco-Gajic, N. Alex}, booktitle={Advances in "
        "Neural Information Processing Systems}, year={2025}, note={arXiv:2510.02765}}"
    ),
    "ziyin2025heterosynaptic": (
        "@article{ziyin2025heterosynaptic, title={Heterosynaptic Circuits Are Universal Gradient Machines}, "
        "author={Ziyin, Liu and Chuang, Isaac and Poggio, Tomaso}, journal={arXiv:2505.02248}, year={2025}}"
    ),
    "koplow2025emergence": (
        "@article{koplow2025emergence, title={Emergence of Hebbian Dynamics in Regularized Non-Local Learners}, "
        "author={Koplow, David and Poggio, Tomaso and Ziyin, Liu}, journal={arXiv:2505.18069}, year={2025}}"
    ),
    "oksendal2003stochastic": (
        "@book{oksendal2003stochastic, title={Stochastic Differential Equations}, author={Oksendal, Bernt}, "
        "publisher={Springer}, year={2003}, doi={10.1007/978-3-642-14394-6}}"
    ),
    "fremaux2016neuromodulated": (
        "@article{fremaux2016neuromodulated, title={Neuromodulated Spike-Timing-Dependent Plasticity, and Theory of "
        "Three-Factor Learning Rules}, author={Fr{\\'e}maux, Nicolas and Gerstner, Wulfram}, journal={Frontiers in "
        "Neural Circuits}, volume={9}, pages={85}, year={2016}, doi={10.3389/fncir.2015.00085}}"
    ),
    "kempter1999hebbian": (
        "@article{kempter1999hebbian, title={Hebbian learning and spiking neurons}, author={Kempter, Richard and "
        "Gerstner, Wulfram and van Hemmen, J. Leo}, journal={Physical Review E}, volume={59}, number={4}, "
        "pages={4498--4514}, year={1999}, doi={10.1103/PhysRevE.59.4498}}"
    ),
    "milstein2021bidirectional": (
        "@article{milstein2021bidirectional, title={Bidirectional synaptic plasticity rapidly modifies hippocampal "
        "representations}, author={Milstein, Aaron D. and Li, Yiding and Bittner, Katie C. and Grienberger, Christine "
        "and Soltesz, Ivan and Magee, Jeffrey C. and Romani, Sandro}, journal={eLife}, volume={10}, pages={e73046}, "
        "year={2021}, doi={10.7554/eLife.73046}}"
    ),
    "bellec2020solution": (
        "@article{bellec2020solution, title={A solution to the learning dilemma for recurrent networks of spiking "
        "neurons}, author={Bellec, Guillaume and Scherr, Franz and Subramoney, Anand and Hajek, Elias and Salaj, "
        "Darjan and Legenstein, Robert and Maass, Wolfgang}, journal={Nature Communications}, volume={11}, "
        "pages={3625}, year={2020}, doi={10.1038/s41467-020-17236-y}}"
    ),
    "bittner2017behavioral": (
        "@article{bittner2017behavioral, title={Behavioral time scale synaptic plasticity underlies CA1 place fields}, "
        "author={Bittner, Katie C. and Milstein, Aaron D. and Grienberger, Christine and Romani, Sandro and Magee, "
        "Jeffrey C.}, journal={Science}, volume={357}, number={6355}, pages={1033--1036}, year={2017}, "
        "doi={10.1126/science.aan3846}}"
    ),
}
