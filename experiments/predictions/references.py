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
    "kivinen1997exponentiated": (
        "@article{kivinen1997exponentiated, title={Exponentiated Gradient versus Gradient Descent for Linear "
        "Predictors}, author={Kivinen, Jyrki and Warmuth, Manfred K.}, journal={Information and Computation}, "
        "volume={132}, number={1}, pages={1--63}, year={1997}, doi={10.1006/inco.1996.2612}}"
    ),
    "shetty2025dale": (
        "@article{shetty2025dale, title={Dale meets Langevin: A Multiplicative Denoising Diffusion Model}, "
        "author={Shetty, Nishanth and Prasath, Madhava and Seelamantula, Chandra Sekhar}, "
        "journal={arXiv:2510.02730}, year={2025}}"
    ),
    "bouvrie2011synchronization": (
        "@article{bouvrie2011synchronization, title={Synchronization and Redundancy: Implications for Robustness of "
        "Neural Learning and Decision Making}, author={Bouvrie, Jake and Slotine, Jean-Jacques}, journal={Neural "
        "Computation}, volume={23}, number={11}, pages={2915--2941}, year={2011}, note={arXiv:1010.4517}}"
    ),
    "tanaka2021noether": (
        "@inproceedings{tanaka2021noether, title={Noether's Learning Dynamics: Role of Symmetry Breaking in Neural "
        "Networks}, author={Tanaka, Hidenori and Kunin, Daniel}, booktitle={Advances in Neural Information Processing "
        "Systems}, year={2021}, note={arXiv:2105.02716}}"
    ),
    "ziyin2025parameter": (
        "@article{ziyin2025parameter, title={Parameter Symmetry Breaking and Restoration Determines the Hierarchical "
        "Learning in AI Systems}, author={Ziyin, Liu and Xu, Yizhou and Poggio, Tomaso and Chuang, Isaac}, "
        "journal={arXiv:2502.05300}, year={2025}}"
    ),
    "lillicrap2016random": (
        "@article{lillicrap2016random, title={Random synaptic feedback weights support error backpropagation for deep "
        "learning}, author={Lillicrap, Timothy P. and Cownden, Daniel and Tweed, Douglas B. and Akerman, Colin J.}, "
        "journal={Nature Communications}, volume={7}, pages={13276}, year={2016}, doi={10.1038/ncomms13276}}"
    ),
}
