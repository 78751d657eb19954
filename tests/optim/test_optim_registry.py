"""The recipes, and a matrix of promises that every optimizer keeps."""

import copy
import subprocess
import sys

import pytest
import torch

from stablegrad.errors import UserError
from stablegrad.optim import OPTIMIZERS, Kron, build, info, option_names

NAMES = list(OPTIMIZERS)


def advance(optimizer, gradients, steps):
    for t in steps:
        gradients(t)
        optimizer.step()


def test_the_names_and_what_a_learning_rate_is_multiplied_by():
    assert {name: info(name).lr_scale for name in NAMES} == {
        "adam": 1, "adamw": 1, "radam": 1, "sgd": 1, "rmsprop": 1, "kron": 1 / 3,
    }  # fmt: skip
    assert [name for name in NAMES if not info(name).compile_safe] == ["kron"]
    assert [name for name in NAMES if info(name).second_order] == ["kron"]


def test_listing_the_recipes_does_not_import_torch():
    script = (
        "import sys; from stablegrad.optim import OPTIMIZERS, build, info;"
        "assert info('kron').lr_scale == 1 / 3 and len(OPTIMIZERS) == 6; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_complete(name):
    recipe = info(name)
    assert recipe.name == name
    assert recipe.description
    assert recipe.citation
    assert set(recipe.defaults) <= set(option_names(name))
    assert recipe.seeded == ("seed" in option_names(name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_saved_and_loaded_optimizer_goes_on_bit_for_bit(name, dtype, problem, tmp_path):
    net, gradients = problem(dtype)
    optimizer = build(name, list(net.parameters()), 1e-3)
    advance(optimizer, gradients, range(20))
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    weights = copy.deepcopy(net.state_dict())
    advance(optimizer, gradients, range(20, 40))

    again, again_gradients = problem(dtype)
    again.load_state_dict(weights)
    resumed = build(name, list(again.parameters()), 1e-3)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    advance(resumed, again_gradients, range(20, 40))
    for p, q in zip(net.parameters(), again.parameters(), strict=True):
        assert p.dtype == q.dtype == dtype
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_down_a_parabola(name):
    target = torch.tensor([[3.0, -2.0], [0.5, 1.0], [-1.0, 0.0]])
    curvature = torch.tensor([[1.0, 4.0], [9.0, 1.0], [2.0, 5.0]])
    p = torch.nn.Parameter(torch.zeros(3, 2))
    optimizer = build(name, [p], 0.1)
    for t in range(600):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - t / 600)
        optimizer.zero_grad()
        loss = (curvature * (p - target).square()).sum() / 2
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3  # from 28.1


@pytest.mark.parametrize("name", NAMES)
def test_parameter_groups_keep_their_own_rate(name):
    fast, slow = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    optimizer = build(name, [{"params": [fast]}, {"params": [slow], "lr": 1e-9}], 0.1)
    for _ in range(10):  # RAdam's first steps are plain momentum
        fast.grad = slow.grad = torch.full((2, 2), 0.5)
        optimizer.step()
    assert (1 - fast.mean()).item() > 1e-2
    assert (1 - slow.mean()).abs().item() < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_the_learning_rate_is_used_as_given(name):
    optimizer = build(name, [torch.nn.Parameter(torch.ones(2))], 0.3)
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_kron_options_reach_kron():
    optimizer = build("kron", [torch.nn.Parameter(torch.ones(2))], 0.3, conv_view="published", seed=4)
    assert isinstance(optimizer, Kron)
    assert optimizer.param_groups[0]["conv_view"] == "published"
    assert optimizer.param_groups[0]["seed"] == 4


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("krom", {}, r"unknown optimizer 'krom' \(did you mean 'kron'\?\)"),
        ("adamax", {}, "known: adam, adamw, radam, sgd, rmsprop, kron"),
        ("adam", {"beta": 1}, r"optimizer 'adam' has no option 'beta' \(did you mean 'betas'\?\)"),
        ("kron", {"precond_rl": 1}, r"no option 'precond_rl' \(did you mean 'precond_lr'\?\)"),
        ("adam", {"eps": -1.0}, "optimizer 'adam': Invalid epsilon value"),
        ("kron", {"b1": 2.0}, "b1 must be in"),
    ],
)
def test_a_mistake_gets_one_sentence(name, options, sentence):
    with pytest.raises(UserError, match=sentence):
        build(name, [torch.nn.Parameter(torch.ones(2))], 0.1, **options)


def test_all_unknown_options_are_reported_at_once():
    with pytest.raises(UserError) as error:
        build("adam", [torch.nn.Parameter(torch.ones(2))], 0.1, alpha=1, beta=2)
    assert len(error.value.problems) == 2


USER_FILE = '''
import torch
from stablegrad.optim import OptimizerInfo

class Signed(torch.optim.SGD):
    """Follow the sign of the gradient.

    More about it.
    """

    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            p.data.sub_(self.param_groups[0]["lr"] * p.grad.sign())

half = OptimizerInfo(name="half", factory=Signed, description="mine", citation="none", lr_scale=0.5)
'''


def test_an_optimizer_of_the_user_s_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(USER_FILE)
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.tensor([5.0, -0.1])
    build(f"{path}:Signed", [p], 0.25).step()
    assert p.tolist() == [0.75, 1.25]
    assert info(f"{path}:Signed").description == "Follow the sign of the gradient."
    assert not info(f"{path}:Signed").compile_safe
    assert info(f"{path}:half").lr_scale == 0.5
    assert "momentum" in option_names(f"{path}:half")
    with pytest.raises(UserError, match="has no 'Sined'"):
        build(f"{path}:Sined", [p], 0.25)
