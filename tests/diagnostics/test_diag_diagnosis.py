"""`diagnose` on anybody's module: sick networks are named, a healthy one is not accused, three forms of output."""

import copy
import io
import json

import pytest
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from stablegrad.diagnostics import Diagnosis, catalogue, diagnose
from stablegrad.diagnostics.remarks import THRESHOLDS, remarks
from stablegrad.errors import UserError

INPUTS = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randn(256, 3, generator=torch.Generator().manual_seed(1))


def loss(outputs: Tensor) -> Tensor:
    return (outputs - TARGETS).square().mean()


def plain(layers: int, *, norm: bool = False) -> nn.Sequential:
    """PyTorch's own initialisation, which shrinks the signal layer by layer."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for index in range(layers):
        parts += [nn.Linear(8 if index == 0 else 64, 64), *([nn.LayerNorm(64)] if norm else []), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(64, 3))


def said(diagnosis: Diagnosis) -> str:
    return " ".join(one.text for one in diagnosis.remarks if one.severity == "warning")


def test_a_healthy_network_is_not_accused() -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        diagnosis = diagnose(plain(2, norm=True), INPUTS, loss_fn=loss)
        assert said(diagnosis) == ""


def test_a_deep_plain_network_has_a_vanishing_gradient_and_collapsed_features() -> None:
    words = said(diagnose(plain(12), INPUTS, loss_fn=loss))
    assert "vanishes towards the input" in words
    assert "nearly the same to the head" in words
    assert "the representation is collapsed" in words


def test_planted_dead_units_are_named_with_their_layer() -> None:
    network = plain(2, norm=True)
    with torch.no_grad():
        network[4].bias[:40] = -100.0
    words = said(diagnose(network, INPUTS, loss_fn=loss))
    assert "31% of the hidden units never fire" in words
    assert "More than half of the units are dead in layer 3." in words
    assert "Hardly any gradient reaches 31%" in words


def test_saturated_units_are_named() -> None:
    network = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 3))
    with torch.no_grad():
        network[0].bias.fill_(50.0)
    assert "100% of the tanh or sigmoid units are saturated" in said(diagnose(network, INPUTS))


def test_not_a_number_is_said() -> None:
    network = plain(1)
    with torch.no_grad():
        network[0].weight[0, 0] = torch.nan
    assert "Not a number" in said(diagnose(network, INPUTS, loss_fn=loss))


def test_a_rank_that_the_batch_bounds_is_a_note_not_a_warning() -> None:
    diagnosis = diagnose(plain(1, norm=True), INPUTS[:16])
    assert [one.severity for one in diagnosis.remarks] == ["note"]
    assert "bounded by the batch of 16 inputs" in diagnosis.remarks[0].text


def test_ranks_that_are_missing_are_explained() -> None:
    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain(1, norm=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) / 2

    diagnosis = diagnose(Halved(), INPUTS)
    assert [one.text for one in diagnosis.remarks if "ranks are missing" in one.text]
    assert "units/dead/net.0" in diagnosis.metrics


def test_churn_needs_the_network_of_a_moment_ago() -> None:
    network = plain(1)
    before = copy.deepcopy(network)
    assert not any(name.startswith("churn") for name in diagnose(network, INPUTS).metrics)
    with torch.no_grad():
        network[-1].weight.neg_()
        network[-1].bias.neg_()
    diagnosis = diagnose(network, INPUTS, before=before)
    assert diagnosis.metrics["churn/policy"] == 1.0
    assert diagnosis.metrics["churn/representation"] == 0.0
    assert "100% of the greedy actions changed" in said(diagnosis)


def test_a_group_has_its_own_curvature() -> None:
    network = plain(1)
    whole = diagnose(network, INPUTS, loss_fn=loss).metrics["curvature/hessian_trace"]
    head = diagnose(network, INPUTS, loss_fn=loss, group="2").metrics["curvature/hessian_trace"]
    # The head is linear under a squared loss: trace = 2 / 3 * 3 * (E|phi|^2 + 1) = 2 (E|phi|^2 + 1), known exactly.
    features = network[:2](INPUTS)
    assert head == pytest.approx(2 * (features.square().sum(dim=1).mean().item() + 1), rel=0.2)
    assert head < whole


def test_capacity_on_request() -> None:
    assert "features/capacity_steps" not in diagnose(plain(1), INPUTS).metrics
    metrics = diagnose(plain(1), INPUTS, capacity_budget=3).metrics
    assert metrics["features/capacity_steps"] == 3


def test_gradients_are_those_of_backward() -> None:
    network = plain(2)
    metrics = diagnose(network, INPUTS, loss_fn=loss).metrics
    loss(network(INPUTS)).backward()
    assert metrics["gradients/raw/2"] == pytest.approx(network[2].weight.grad.norm().item(), rel=1e-5)
    everything = torch.cat([p.grad.flatten() for p in network.parameters()])
    assert metrics["gradients/raw/total"] == pytest.approx(everything.norm().item(), rel=1e-5)


class TestForms:
    @pytest.fixture
    def diagnosis(self) -> Diagnosis:
        network = plain(2)
        with torch.no_grad():
            network[2].bias[:40] = -100.0
        return diagnose(network, INPUTS, loss_fn=loss)

    def test_every_metric_is_in_the_catalogue(self, diagnosis: Diagnosis) -> None:
        for name in diagnosis.metrics:
            catalogue.entry(name)

    def test_dict(self, diagnosis: Diagnosis) -> None:
        tree = json.loads(json.dumps(diagnosis.to_dict()))
        assert tree["network"] == "Sequential"
        assert tree["inputs"] == 256
        assert tree["metrics"]["units/dead/2"] == pytest.approx(40 / 64, abs=0.05)
        assert tree["remarks"][0]["severity"] == "warning"

    def test_layers_gather_what_belongs_to_each(self, diagnosis: Diagnosis) -> None:
        assert list(diagnosis.layers) == ["0", "2", "4"]
        assert set(diagnosis.layers["0"]) == {
            "units/dead", "units/dormant", "units/grama", "weights/norm", "gradients/raw",
        }  # fmt: skip
        assert set(diagnosis.layers["4"]) == {"weights/norm", "gradients/raw"}
        assert "units/dead/total" in diagnosis.summary
        assert "units/dead/0" not in diagnosis.summary

    def test_tables(self, diagnosis: Diagnosis) -> None:
        assert isinstance(diagnosis.table(), Table)
        assert diagnosis.table().row_count == len(diagnosis.summary)
        assert diagnosis.layer_table().row_count == 3
        text = str(diagnosis)
        for part in ("units/dead/total", "By layer", "warning:", "Sequential: 4,931 parameters, 256 inputs"):
            assert part in text
        console = Console(file=io.StringIO(), width=200)
        console.print(diagnosis)
        assert "By layer" in console.file.getvalue()

    def test_html_stands_alone_and_escapes(self, diagnosis: Diagnosis) -> None:
        page = diagnosis.to_html()
        assert page.startswith("<!doctype html>")
        assert "never fire" in page
        assert "units/dead" in page
        assert "://" not in page
        assert "color-scheme:light dark" in page
        hostile = Diagnosis("<script>", 1, 1, {}, ())
        assert "<script>" not in hostile.to_html()
        assert "Nothing stands out." in hostile.to_html()
        assert "Nothing stands out." in str(hostile)


def test_thresholds_are_about_metrics_that_exist() -> None:
    for threshold in THRESHOLDS:
        catalogue.entry(threshold.metric)
        threshold.text.format(value=0.5, layers="x")
        assert threshold.source
    assert remarks({}) == ()


class Critic(nn.Module):
    """Two inputs of different types and two outputs, as in SAC and TD3."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1)) for _ in range(2))

    def forward(self, images: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        assert images.dtype == torch.uint8
        joined = torch.cat([images.flatten(1).float() / 255, actions], dim=1)
        return self.first(joined), self.second(joined)


class OfDict(nn.Module):
    def __init__(self, critic: Critic) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self.critic(given["images"], given["actions"])


def test_a_module_of_several_inputs() -> None:
    torch.manual_seed(0)
    critic = Critic()
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (64, 2, 4), dtype=torch.uint8, generator=generator)
    actions = torch.randn(64, 2, generator=generator)
    both = lambda outputs: outputs[0].mean() + outputs[1].mean()  # noqa: E731
    found = diagnose(critic, (images, actions), loss_fn=both, before=copy.deepcopy(critic))
    assert set(found.layers) == {"first.0", "first.2", "second.0", "second.2"}
    assert found.metrics["churn/value"] == 0.0
    assert found.inputs == 64
    as_dict = diagnose(OfDict(critic), {"images": images, "actions": actions}, loss_fn=both)
    assert as_dict.metrics["units/dead/critic.first.0"] == found.metrics["units/dead/first.0"]
    assert as_dict.metrics["gradients/raw/total"] == found.metrics["gradients/raw/total"]


def test_mistakes_are_named() -> None:
    for batch in (INPUTS[:1], torch.tensor(1.0), "inputs", ()):
        with pytest.raises(UserError, match="at least two inputs"):
            diagnose(plain(1), batch)
    with pytest.raises(UserError, match=r"different lengths: \[256, 3\]"):
        diagnose(Critic(), (INPUTS, INPUTS[:3]))
    with pytest.raises(UserError, match="no parameter group 'trunk'"):
        diagnose(plain(1), INPUTS, loss_fn=loss, group="trunk")


def test_halves_give_the_angle_and_the_noise_scale() -> None:
    """By hand: f(x) = w x with w = 1 on the inputs 1 and 2, loss f^2: gradients 2 and 8, of the whole batch 5.

    |G_small|^2 = (4 + 64) / 2 = 34 and |G_big|^2 = 25: signal = (2 * 25 - 34) / 1, noise = (34 - 25) / (1 - 1 / 2).
    """
    network = nn.Sequential(nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        network[0].weight.fill_(1.0)
    first, second = torch.tensor([[1.0]]), torch.tensor([[2.0]])
    halves = (lambda: network(first).square().mean(), lambda: network(second).square().mean())
    metrics = diagnose(network, torch.cat([first, second]), halves=halves).metrics
    assert metrics["gradients/cosine_halves/0"] == pytest.approx(1.0)
    assert (metrics["gradients/signal"], metrics["gradients/noise"]) == pytest.approx((16.0, 18.0))
    assert metrics["gradients/noise_scale"] == pytest.approx(18 / 16)
