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
    "werfel2005learning": (
        "@article{werfel2005learning, title={Learning curves for stochastic gradient descent in linear feedforward "
        "networks}, author={Werfel, Justin and Xie, Xiaohui and Seung, H. Sebastian}, journal={Neural Computation}, "
        "volume={17}, number={12}, pages={2699--2718}, year={2005}, doi={10.1162/089976605774320539}}"
    ),
    "akrout2019deep": (
        "@inproceedings{akrout2019deep, title={Deep Learning without Weight Transport}, author={Akrout, Mohamed and "
        "Wilson, Collin and Humphreys, Peter C. and Lillicrap, Timothy and Tweed, Douglas B.}, booktitle={Advances in "
        "Neural Information Processing Systems}, year={2019}, note={arXiv:1904.05391}}"
    "hayes1950roots": (
        "@article{hayes1950roots, title={Roots of the Transcendental Equation Associated with a Certain "
        "Difference-Differential Equation}, author={Hayes, N. D.}, journal={Journal of the London Mathematical "
        "Society}, volume={s1-25}, pages={226--232}, year={1950}, doi={10.1112/jlms/s1-25.3.226}}"
    ),
    "levin1976note": (
        "@article{levin1976note, title={A note on difference-delay equations}, author={Levin, Simon A. and May, Robert "
        "M.}, journal={Theoretical Population Biology}, volume={9}, pages={178--187}, year={1976}, "
        "doi={10.1016/0040-5809(76)90043-5}}"
    ),
    "macdonald1978time": (
        "@book{macdonald1978time, title={Time Lags in Biological Models}, author={MacDonald, Norman}, "
        "publisher={Springer}, year={1978}, doi={10.1007/978-3-642-93107-9}}"
    ),
    "yeung1999time": (
        "@article{yeung1999time, title={Time Delay in the Kuramoto Model of Coupled Oscillators}, author={Yeung, M. K. "
        "Stephen and Strogatz, Steven H.}, journal={Physical Review Letters}, volume={82}, pages={648--651}, "
        "year={1999}, doi={10.1103/PhysRevLett.82.648}}"
    ),
    "kuchler1992langevins": (
        "@article{kuchler1992langevins, title={Langevins stochastic differential equation extended by a time-delayed "
        "term}, author={Kuechler, Uwe and Mensch, Beatrice}, journal={Stochastics and Stochastic Reports}, "
        "volume={40}, pages={23--42}, year={1992}, doi={10.1080/17442509208833780}}"
    ),
    "chizat2019lazy": (
        "@inproceedings{chizat2019lazy, title={On Lazy Training in Differentiable Programming}, author={Chizat, "
        "Lenaic and Oyallon, Edouard and Bach, Francis}, booktitle={Advances in Neural Information Processing "
        "Systems}, year={2019}, note={arXiv:1812.07956}}"
    ),
    "benettin1980lyapunov": (
        "@article{benettin1980lyapunov, title={Lyapunov Characteristic Exponents for smooth dynamical systems and for "
        "hamiltonian systems; a method for computing all of them}, author={Benettin, Giancarlo and Galgani, Luigi and "
        "Giorgilli, Antonio and Strelcyn, Jean-Marie}, journal={Meccanica}, volume={15}, pages={9--30}, year={1980}, "
        "doi={10.1007/BF02128236}}"
    ),
    "hasani2022closed": (
        "@article{hasani2022closed, title={Closed-form continuous-time neural networks}, author={Hasani, Ramin and "
        "Lechner, Mathias and Amini, Alexander and Liebenwein, Lucas and Ray, Aaron and Tschaikowski, Max and Teschl, "
        "Gerald and Rus, Daniela}, journal={Nature Machine Intelligence}, volume={4}, pages={992--1003}, year={2022}, "
        "doi={10.1038/s42256-022-00556-7}}"
    ),
    "maoutsa2020interacting": (
        "@article{maoutsa2020interacting, title={Interacting Particle Solutions of Fokker-Planck Equations Through "
        "Gradient-Log-Density Estimation}, author={Maoutsa, Dimitra and Reich, Sebastian and Opper, Manfred}, "
        "journal={Entropy}, volume={22}, pages={802}, year={2020}, doi={10.3390/e22080802}}"
    ),
    "kloeden1992numerical": (
        "@book{kloeden1992numerical, title={Numerical Solution of Stochastic Differential Equations}, author={Kloeden, "
        "Peter E. and Platen, Eckhard}, publisher={Springer}, year={1992}, doi={10.1007/978-3-662-12616-5}}"
    ),
    "tian2025provable": (
        "@article{tian2025provable, title={Provable Scaling Laws of Feature Emergence from Learning Dynamics of "
        "Grokking}, author={Tian, Yuandong}, journal={arXiv:2509.21519}, year={2025}}"
    ),
}
