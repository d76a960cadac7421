"""The papers whose claims are tested, by the bibtex key that a prediction's source begins with."""

import re

_ENTRIES = r"""
@article{bacvanski2025continuous, title={On Biologically Plausible Learning in Continuous Time}, author={Bacvanski, Marc
    Gong and Ziyin, Liu and Poggio, Tomaso}, journal={arXiv:2510.18808}, year={2025}}
@inproceedings{kingma2015adam, title={Adam: A Method for Stochastic Optimization}, author={Kingma, Diederik P. and Ba,
    Jimmy}, booktitle={International Conference on Learning Representations}, year={2015}, note={arXiv:1412.6980}}
@inproceedings{ninou2025curl, title={Curl Descent: Non-Gradient Learning Dynamics with Sign-Diverse Plasticity},
    author={Ninou, Hugo and Kadmon, Jonathan and Cayco-Gajic, N. Alex}, booktitle={Advances in Neural Information
    Processing Systems}, year={2025}, note={arXiv:2510.02765}}
@article{ziyin2025heterosynaptic, title={Heterosynaptic Circuits Are Universal Gradient Machines}, author={Ziyin, Liu
    and Chuang, Isaac and Poggio, Tomaso}, journal={arXiv:2505.02248}, year={2025}}
@article{koplow2025emergence, title={Emergence of Hebbian Dynamics in Regularized Non-Local Learners}, author={Koplow,
    David and Poggio, Tomaso and Ziyin, Liu}, journal={arXiv:2505.18069}, year={2025}}
@book{oksendal2003stochastic, title={Stochastic Differential Equations}, author={Oksendal, Bernt}, publisher={Springer},
    year={2003}, doi={10.1007/978-3-642-14394-6}}
@inproceedings{saxe2014exact, title={Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks}, author={Saxe, Andrew M. and McClelland, James L. and Ganguli, Surya}, booktitle={International Conference
    on Learning Representations}, year={2014}, note={arXiv:1312.6120}}
@inproceedings{braun2022exact, title={Exact learning dynamics of deep linear networks with prior knowledge},
    author={Braun, Lukas and Domin{\'e}, Cl{\'e}mentine and Fitzgerald, James and Saxe, Andrew}, booktitle={Advances in
    Neural Information Processing Systems}, year={2022}}
@article{ziyin2025platonic, title={Proof of a perfect platonic representation hypothesis}, author={Ziyin, Liu and
    Chuang, Isaac}, journal={arXiv:2507.01098}, year={2025}}
@inproceedings{fukumizu1998effect, title={Effect of Batch Learning in Multilayer Neural Networks}, author={Fukumizu,
    Kenji}, booktitle={International Conference on Neural Information Processing}, pages={67--70}, year={1998}}
@article{zhang2025saddle, title={Saddle-to-Saddle Dynamics Explains A Simplicity Bias Across Neural Network
    Architectures}, author={Zhang, Yedi and Saxe, Andrew and Latham, Peter E.}, journal={arXiv:2512.20607}, year={2025}}
@article{advani2020high, title={High-dimensional dynamics of generalization error in neural networks}, author={Advani,
    Madhu S. and Saxe, Andrew M. and Sompolinsky, Haim}, journal={Neural Networks}, volume={132}, pages={428--446},
    year={2020}, doi={10.1016/j.neunet.2020.08.022}}
@inproceedings{pezeshki2022multi, title={Multi-scale Feature Learning Dynamics: Insights for Double Descent},
    author={Pezeshki, Mohammad and Mitra, Amartya and Bengio, Yoshua and Lajoie, Guillaume}, booktitle={International
    Conference on Machine Learning}, year={2022}, note={arXiv:2112.03215}}
@inproceedings{kumar2024grokking, title={Grokking as the transition from lazy to rich training dynamics}, author={Kumar,
    Tanishq and Bordelon, Blake and Gershman, Samuel J. and Pehlevan, Cengiz}, booktitle={International Conference on
    Learning Representations}, year={2024}, note={arXiv:2310.06110}}
@inproceedings{liu2024connectivity, title={How connectivity structure shapes rich and lazy learning in neural circuits},
    author={Liu, Yuhan Helena and Baratin, Aristide and Cornford, Jonathan and Mihalas, Stefan and Shea-Brown, Eric and
    Lajoie, Guillaume}, booktitle={International Conference on Learning Representations}, year={2024},
    note={arXiv:2310.08513}}
@article{werfel2005learning, title={Learning curves for stochastic gradient descent in linear feedforward networks},
    author={Werfel, Justin and Xie, Xiaohui and Seung, H. Sebastian}, journal={Neural Computation}, volume={17},
    number={12}, pages={2699--2718}, year={2005}, doi={10.1162/089976605774320539}}
@inproceedings{akrout2019deep, title={Deep Learning without Weight Transport}, author={Akrout, Mohamed and Wilson,
    Collin and Humphreys, Peter C. and Lillicrap, Timothy and Tweed, Douglas B.}, booktitle={Advances in Neural
    Information Processing Systems}, year={2019}, note={arXiv:1904.05391}}
@article{hayes1950roots, title={Roots of the Transcendental Equation Associated with a Certain Difference-Differential
    Equation}, author={Hayes, N. D.}, journal={Journal of the London Mathematical Society}, volume={s1-25},
    pages={226--232}, year={1950}, doi={10.1112/jlms/s1-25.3.226}}
@article{levin1976note, title={A note on difference-delay equations}, author={Levin, Simon A. and May, Robert M.},
    journal={Theoretical Population Biology}, volume={9}, pages={178--187}, year={1976},
    doi={10.1016/0040-5809(76)90043-5}}
@book{macdonald1978time, title={Time Lags in Biological Models}, author={MacDonald, Norman}, publisher={Springer},
    year={1978}, doi={10.1007/978-3-642-93107-9}}
@article{yeung1999time, title={Time Delay in the Kuramoto Model of Coupled Oscillators}, author={Yeung, M. K. Stephen
    and Strogatz, Steven H.}, journal={Physical Review Letters}, volume={82}, pages={648--651}, year={1999},
    doi={10.1103/PhysRevLett.82.648}}
@article{kuchler1992langevins, title={Langevins stochastic differential equation extended by a time-delayed term},
    author={Kuechler, Uwe and Mensch, Beatrice}, journal={Stochastics and Stochastic Reports}, volume={40},
    pages={23--42}, year={1992}, doi={10.1080/17442509208833780}}
@inproceedings{chizat2019lazy, title={On Lazy Training in Differentiable Programming}, author={Chizat, Lenaic and
    Oyallon, Edouard and Bach, Francis}, booktitle={Advances in Neural Information Processing Systems}, year={2019},
    note={arXiv:1812.07956}}
@article{benettin1980lyapunov, title={Lyapunov Characteristic Exponents for smooth dynamical systems and for hamiltonian
    systems; a method for computing all of them}, author={Benettin, Giancarlo and Galgani, Luigi and Giorgilli, Antonio
    and Strelcyn, Jean-Marie}, journal={Meccanica}, volume={15}, pages={9--30}, year={1980}, doi={10.1007/BF02128236}}
@article{hasani2022closed, title={Closed-form continuous-time neural networks}, author={Hasani, Ramin and Lechner,
    Mathias and Amini, Alexander and Liebenwein, Lucas and Ray, Aaron and Tschaikowski, Max and Teschl, Gerald and Rus,
    Daniela}, journal={Nature Machine Intelligence}, volume={4}, pages={992--1003}, year={2022},
    doi={10.1038/s42256-022-00556-7}}
@article{maoutsa2020interacting, title={Interacting Particle Solutions of Fokker-Planck Equations Through
    Gradient-Log-Density Estimation}, author={Maoutsa, Dimitra and Reich, Sebastian and Opper, Manfred},
    journal={Entropy}, volume={22}, pages={802}, year={2020}, doi={10.3390/e22080802}}
@book{kloeden1992numerical, title={Numerical Solution of Stochastic Differential Equations}, author={Kloeden, Peter E.
    and Platen, Eckhard}, publisher={Springer}, year={1992}, doi={10.1007/978-3-662-12616-5}}
@article{oja1982simplified, title={A simplified neuron model as a principal component analyzer}, author={Oja, Erkki},
    journal={Journal of Mathematical Biology}, volume={15}, pages={267--273}, year={1982}, doi={10.1007/BF00275687}}
@inproceedings{wei2026improved, title={Improved high-dimensional estimation with Langevin dynamics and stochastic weight
    averaging}, author={Wei, Stanley and Damian, Alex and Lee, Jason D.}, booktitle={International Conference on
    Learning Representations}, year={2026}, note={arXiv:2603.06028}}
@article{tian2025provable, title={Provable Scaling Laws of Feature Emergence from Learning Dynamics of Grokking},
    author={Tian, Yuandong}, journal={arXiv:2509.21519}, year={2025}}
@article{kivinen1997exponentiated, title={Exponentiated Gradient versus Gradient Descent for Linear Predictors},
    author={Kivinen, Jyrki and Warmuth, Manfred K.}, journal={Information and Computation}, volume={132}, number={1},
    pages={1--63}, year={1997}, doi={10.1006/inco.1996.2612}}
@article{shetty2025dale, title={Dale meets Langevin: A Multiplicative Denoising Diffusion Model}, author={Shetty,
    Nishanth and Prasath, Madhava and Seelamantula, Chandra Sekhar}, journal={arXiv:2510.02730}, year={2025}}
@article{bouvrie2011synchronization, title={Synchronization and Redundancy: Implications for Robustness of Neural
    Learning and Decision Making}, author={Bouvrie, Jake and Slotine, Jean-Jacques}, journal={Neural Computation},
    volume={23}, number={11}, pages={2915--2941}, year={2011}, note={arXiv:1010.4517}}
@inproceedings{tanaka2021noether, title={Noether's Learning Dynamics: Role of Symmetry Breaking in Neural Networks},
    author={Tanaka, Hidenori and Kunin, Daniel}, booktitle={Advances in Neural Information Processing Systems},
    year={2021}, note={arXiv:2105.02716}}
@article{ziyin2025parameter, title={Parameter Symmetry Breaking and Restoration Determines the Hierarchical Learning in
    AI Systems}, author={Ziyin, Liu and Xu, Yizhou and Poggio, Tomaso and Chuang, Isaac}, journal={arXiv:2502.05300},
    year={2025}}
@article{lillicrap2016random, title={Random synaptic feedback weights support error backpropagation for deep learning},
    author={Lillicrap, Timothy P. and Cownden, Daniel and Tweed, Douglas B. and Akerman, Colin J.}, journal={Nature
    Communications}, volume={7}, pages={13276}, year={2016}, doi={10.1038/ncomms13276}}
@article{scellier2017equilibrium, title={Equilibrium Propagation: Bridging the Gap between Energy-Based Models and
    Backpropagation}, author={Scellier, Benjamin and Bengio, Yoshua}, journal={Frontiers in Computational Neuroscience},
    volume={11}, pages={24}, year={2017}, doi={10.3389/fncom.2017.00024}}
@article{laborieux2021scaling, title={Scaling Equilibrium Propagation to Deep ConvNets by Drastically Reducing Its
    Gradient Estimator Bias}, author={Laborieux, Axel and Ernoult, Maxence and Scellier, Benjamin and Bengio, Yoshua and
    Grollier, Julie and Querlioz, Damien}, journal={Frontiers in Neuroscience}, volume={15}, pages={633674},
    year={2021}, doi={10.3389/fnins.2021.633674}}
@inproceedings{laborieux2022holomorphic, title={Holomorphic Equilibrium Propagation Computes Exact Gradients Through
    Finite Size Oscillations}, author={Laborieux, Axel and Zenke, Friedemann}, booktitle={Advances in Neural Information
    Processing Systems}, year={2022}, note={arXiv:2209.00530}}
@article{xie2003equivalence, title={Equivalence of Backpropagation and Contrastive Hebbian Learning in a Layered
    Network}, author={Xie, Xiaohui and Seung, H. Sebastian}, journal={Neural Computation}, volume={15},
    pages={441--454}, year={2003}, doi={10.1162/089976603762552988}}
@article{whittington2017approximation, title={An Approximation of the Error Backpropagation Algorithm in a Predictive
    Coding Network with Local Hebbian Synaptic Plasticity}, author={Whittington, James C. R. and Bogacz, Rafal},
    journal={Neural Computation}, volume={29}, pages={1229--1262}, year={2017}, doi={10.1162/NECO_a_00949}}
@inproceedings{innocenti2024strict, title={Only Strict Saddles in the Energy Landscape of Predictive Coding Networks?},
    author={Innocenti, Francesco and Achour, El Mehdi and Singh, Ryan and Buckley, Christopher L.}, booktitle={Advances
    in Neural Information Processing Systems}, year={2024}, note={arXiv:2408.11979}}
@article{fremaux2016neuromodulated, title={Neuromodulated Spike-Timing-Dependent Plasticity, and Theory of Three-Factor
    Learning Rules}, author={Fr{\'e}maux, Nicolas and Gerstner, Wulfram}, journal={Frontiers in Neural Circuits},
    volume={9}, pages={85}, year={2016}, doi={10.3389/fncir.2015.00085}}
@article{kempter1999hebbian, title={Hebbian learning and spiking neurons}, author={Kempter, Richard and Gerstner,
    Wulfram and van Hemmen, J. Leo}, journal={Physical Review E}, volume={59}, number={4}, pages={4498--4514},
    year={1999}, doi={10.1103/PhysRevE.59.4498}}
@article{milstein2021bidirectional, title={Bidirectional synaptic plasticity rapidly modifies hippocampal
    representations}, author={Milstein, Aaron D. and Li, Yiding and Bittner, Katie C. and Grienberger, Christine and
    Soltesz, Ivan and Magee, Jeffrey C. and Romani, Sandro}, journal={eLife}, volume={10}, pages={e73046}, year={2021},
    doi={10.7554/eLife.73046}}
@article{bellec2020solution, title={A solution to the learning dilemma for recurrent networks of spiking neurons},
    author={Bellec, Guillaume and Scherr, Franz and Subramoney, Anand and Hajek, Elias and Salaj, Darjan and Legenstein,
    Robert and Maass, Wolfgang}, journal={Nature Communications}, volume={11}, pages={3625}, year={2020},
    doi={10.1038/s41467-020-17236-y}}
@article{bittner2017behavioral, title={Behavioral time scale synaptic plasticity underlies CA1 place fields},
    author={Bittner, Katie C. and Milstein, Aaron D. and Grienberger, Christine and Romani, Sandro and Magee, Jeffrey
    C.}, journal={Science}, volume={357}, number={6355}, pages={1033--1036}, year={2017}, doi={10.1126/science.aan3846}}
@inproceedings{ziyin2025neural, title={Neural Thermodynamics: Entropic Forces in Deep and Universal Representation
    Learning}, author={Ziyin, Liu and Xu, Yizhou and Chuang, Isaac}, booktitle={Advances in Neural Information
    Processing Systems}, year={2025}, note={arXiv:2505.12387}}
@inproceedings{wu2023implicit, title={The Implicit Regularization of Dynamical Stability in Stochastic Gradient
    Descent}, author={Wu, Lei and Su, Weijie J.}, booktitle={International Conference on Machine Learning}, year={2023},
    note={arXiv:2305.17490}}
@article{mahi2025structured, title={Structured Knowledge Accumulation: The Principle of Entropic Least Action in
    Forward-Only Neural Learning}, author={Mahi, Bouarfa}, journal={arXiv:2504.03214}, year={2025}}
"""

REFERENCES = {
    re.split("[{,]", entry)[1]: " ".join(entry.split()) for entry in re.split(r"\n(?=@)", _ENTRIES) if entry.strip()
}
