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
    "saxe2014exact": (
        "@inproceedings{saxe2014exact, title={Exact solutions to the nonlinear dynamics of learning in deep "
        "linear neural networks}, author={Saxe, Andrew M. and McClelland, James L. and Ganguli, Surya}, "
        "booktitle={International Conference on Learning Representations}, year={2014}, note={arXiv:1312.6120}}"
    ),
    "braun2022exact": (
        "@inproceedings{braun2022exact, title={Exact learning dynamics of deep linear networks with prior knowledge}, "
        "author={Braun, Lukas and Domin{\\'e}, Cl{\\'e}mentine and Fitzgerald, James and Saxe, Andrew}, "
        "booktitle={Advances in Neural Information Processing Systems}, year={2022}}"
    ),
    "ziyin2025platonic": (
        "@article{ziyin2025platonic, title={Proof of a perfect platonic representation hypothesis}, author={Ziyin, Liu "
        "and Chuang, Isaac}, journal={arXiv:2507.01098}, year={2025}}"
    ),
    "zhang2025saddle": (
        "@article{zhang2025saddle, title={Saddle-to-Saddle Dynamics Explains A Simplicity Bias Across Neural Network "
        "Architectures}, author={Zhang, Yedi and Saxe, Andrew and Latham, Peter E.}, journal={arXiv:2512.20607}, "
        "year={2025}}"
    ),
    "advani2020high": (
        "@article{advani2020high, title={High-dimensional dynamics of generalization error in neural networks}, "
        "author={Advani, Madhu S. and Saxe, Andrew M. and Sompolinsky, Haim}, journal={Neural Networks}, volume={132}, "
        "pages={428--446}, year={2020}, doi={10.1016/j.neunet.2020.08.022}}"
    ),
    "pezeshki2022multi": (
        "@inproceedings{pezeshki2022multi, title={Multi-scale Feature Learning Dynamics: Insights for Double Descent}, "
        "author={Pezeshki, Mohammad and Mitra, Amartya and Bengio, Yoshua and Lajoie, Guillaume}, "
        "booktitle={International Conference on Machine Learning}, year={2022}, note={arXiv:2112.03215}}"
    ),
    "kumar2024grokking": (
        "@inproceedings{kumar2024grokking, title={Grokking as the transition from lazy to rich training dynamics}, "
        "author={Kumar, Tanishq and Bordelon, Blake and Gershman, Samuel J. and Pehlevan, Cengiz}, "
        "booktitle={International Conference on Learning Representations}, year={2024}, note={arXiv:2310.06110}}"
    ),
    "liu2024connectivity": (
        "@inproceedings{liu2024connectivity, title={How connectivity structure shapes rich and lazy learning in neural "
        "circuits}, author={Liu, Yuhan Helena and Baratin, Aristide and Cornford, Jonathan and Mihalas, Stefan and "
        "Shea-Brown, Eric and Lajoie, Guillaume}, booktitle={International Conference on Learning Representations}, "
        "year={2024}, note={arXiv:2310.08513}}"
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
    "scellier2017equilibrium": (
        "@article{scellier2017equilibrium, title={Equilibrium Propagation: Bridging the Gap between Energy-Based "
        "Models and Backpropagation}, author={Scellier, Benjamin and Bengio, Yoshua}, journal={Frontiers in "
        "Computational Neuroscience}, volume={11}, pages={24}, year={2017}, doi={10.3389/fncom.2017.00024}}"
    ),
    "laborieux2022holomorphic": (
        "@inproceedings{laborieux2022holomorphic, title={Holomorphic Equilibrium Propagation Computes Exact Gradients "
        "Through Finite Size Oscillations}, author={Laborieux, Axel and Zenke, Friedemann}, booktitle={Advances in "
        "Neural Information Processing Systems}, year={2022}, note={arXiv:2209.00530}}"
    ),
    "xie2003equivalence": (
        "@article{xie2003equivalence, title={Equivalence of Backpropagation and Contrastive Hebbian Learning in a "
        "Layered Network}, author={Xie, Xiaohui and Seung, H. Sebastian}, journal={Neural Computation}, volume={15}, "
        "pages={441--454}, year={2003}, doi={10.1162/089976603762552988}}"
    ),
    "whittington2017approximation": (
        "@article{whittington2017approximation, title={An Approximation of the Error Backpropagation Algorithm in a "
        "Predictive Coding Network with Local Hebbian Synaptic Plasticity}, author={Whittington, James C. R. and "
        "Bogacz, Rafal}, journal={Neural Computation}, volume={29}, pages={1229--1262}, year={2017}, "
        "doi={10.1162/NECO_a_00949}}"
    ),
    "innocenti2024strict": (
        "@inproceedings{innocenti2024strict, title={Only Strict Saddles in the Energy Landscape of Predictive Coding "
        "Networks?}, author={Innocenti, Francesco and Achour, El Mehdi and Singh, Ryan and Buckley, Christopher L.}, "
        "booktitle={Advances in Neural Information Processing Systems}, year={2024}, note={arXiv:2408.11979}}"
    ),
}
