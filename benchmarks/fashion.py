"""[fashion] The packaged CNN for Fashion-MNIST on the whole test set: accuracy, and equality of torch, reference and
gateware.

    make bench NAME=fashion DATA_DIR=folder-with-the-IDX-files

Trains the packaged configuration in runs/fashion_mnist_cnn first, or continues there. What is measured is said in
`nmnist.py`; scores and spike counts of the gateware are compared on the first 1,000 of the 10,000 test images.
"""

from common import Figures
from nmnist import measure, options, trained


def main():
    chosen, figures = options("fashion", "fashion_mnist_cnn"), Figures("fashion")
    network = trained("fashion_mnist_cnn", chosen.run, chosen.data_dir)
    measure(figures, "images", network, chosen.data_dir, chosen.run / "build/sim", aim=90, in_gateware=1000)
    figures.write()


if __name__ == "__main__":
    main()
