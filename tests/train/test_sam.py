import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.train import Batches, Optimization, train_

STEPS = Optimization(
    epochs=1, batch_size=44, learning_rate=0.5, momentum=0.0, weight_decay=0.0, sam=0.3
)


def test_one_step_is_that_of_the_papers_algorithm(patterns: Dataset) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    wanted = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    batch = Batches(patterns, STEPS, seed=0)[0]  # all images: their order does not matter

    def gradient(at: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        leaves = {name: value.clone().requires_grad_() for name, value in at.items()}
        logits = torch.func.functional_call(model, leaves, (batch.inputs,))
        found = torch.autograd.grad(cross_entropy(logits, batch.labels), list(leaves.values()))
        return dict(zip(leaves, found, strict=True))

    sam_perturbation = gradient(wanted)
    norm = torch.cat([value.flatten() for value in sam_perturbation.values()]).norm()
    above = gradient({name: wanted[name] + 0.3 * sam_perturbation[name] / norm for name in wanted})
    train_(model, patterns, STEPS, generator=make_generator(0))
    for name, weight in model.named_parameters():
        expected = wanted[name] - 0.5 * above[name]
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-6)


def test_norms_learn_once_a_step(patterns: Dataset) -> None:
    nets = [nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(36, 3)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net, rho in zip(nets, (0.3, 0.0), strict=True):
        steps = STEPS.model_copy(update={"sam": rho, "learning_rate": 1e-9})
        train_(net, patterns, steps, generator=make_generator(0))
    for name, value in nets[0].state_dict().items():
        torch.testing.assert_close(value, nets[1].state_dict()[name], rtol=1e-4, atol=1e-6)
