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
    "werfel2005learning": (
        "@article{werfel2005learning, title={Learning curves for stochastic gradient descent in linear feedforward "
        "networks}, author={Werfel, Justin and Xie, Xiaohui and Seung, H. Sebastian}, journal={Neural Computation}, "
        "volume={17}, number={12}, pages={2699--2718}, year={2005}, doi={10.1162/089976605774320539}}"
    ),
    "akrout2019deep": (
        "@inproceedings{akrout2019deep, title={Deep Learning without Weight Transport}, author={Akrout, Mohamed and "
        "Wilson, Collin and Humphreys, Peter C. and Lillicrap, Timothy and Tweed, Douglas B.}, booktitle={Advances in "
        "Neural Information Processing Systems}, year={2019}, note={arXiv:1904.05391}}"
    ),
}
