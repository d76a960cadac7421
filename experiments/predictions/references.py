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
    "ziyin2025neural": (
        "@inproceedings{ziyin2025neural, title={Neural Thermodynamics: Entropic Forces in Deep and Universal "
        "Representation Learning}, author={Ziyin, Liu and Xu, Yizhou and Chuang, Isaac}, booktitle={Advances in Neural "
        "Information Processing Systems}, year={2025}, note={arXiv:2505.12387}}"
    ),
    "wu2023implicit": (
        "@inproceedings{wu2023implicit, title={The Implicit Regularization of Dynamical Stability in Stochastic "
        "Gradient Descent}, author={Wu, Lei and Su, Weijie J.}, booktitle={International Conference on Machine "
        "Learning}, year={2023}, note={arXiv:2305.17490}}"
    ),
    "mahi2025structured": (
        "@article{mahi2025structured, title={Structured Knowledge Accumulation: The Principle of Entropic Least Action "
        "in Forward-Only Neural Learning}, author={Mahi, Bouarfa}, journal={arXiv:2504.03214}, year={2025}}"
    ),
    "oksendal2003stochastic": (
        "@book{oksendal2003stochastic, title={Stochastic Differential Equations}, author={Oksendal, Bernt}, "
        "publisher={Springer}, year={2003}, doi={10.1007/978-3-642-14394-6}}"
    ),
}
