import torch

torch.set_num_threads(1)  # pytest-xdist already uses every core
