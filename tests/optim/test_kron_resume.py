"""The state of Kron is all in `state_dict()`: k steps, save, load, k steps are 2k steps, bit for bit."""

import copy
import io
import json

import pytest
import safetensors.torch
import torch

from stablegrad.optim import Kron

K = 12


def kron(net, lr=1e-2, **options):
    # At 0.15 every seventh step moves the factors: K is not a multiple of it, so a lost counter is seen.
    return Kron(net.parameters(), lr, **{"update_probability": 0.15, "seed": 14, **options})


def advance(optimizer, gradients, start, count):
    for t in range(start, start + count):
        gradients(t)
        optimizer.step()


def through_torch_save(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def through_json_and_safetensors(state):
    tensors = {}

    def strip(node, path):
        if isinstance(node, torch.Tensor):
            tensors[path] = node
            return {"tensor": path}
        if isinstance(node, dict):
            return {str(key): strip(value, f"{path}/{key}") for key, value in node.items()}
        if isinstance(node, (list, tuple)):
            return [strip(value, f"{path}/{i}") for i, value in enumerate(node)]
        return node

    document, blob = json.dumps(strip(state, "")), safetensors.torch.save(tensors)
    loaded = safetensors.torch.load(blob)

    def fill(node):
        if isinstance(node, dict):
            return loaded[node["tensor"]] if "tensor" in node else {k: fill(v) for k, v in node.items()}
        return [fill(value) for value in node] if isinstance(node, list) else node

    restored = fill(json.loads(document))
    restored["state"] = {int(key): value for key, value in restored["state"].items()}
    return restored


WAYS = {
    "torch.save": through_torch_save,
    "json and safetensors": through_json_and_safetensors,
    "deepcopy": copy.deepcopy,
    "state_dict itself": lambda state: state,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"update_probability": None}, {"weight_decay": 0.1, "conv_view": "published"}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_resumed_optimizer_goes_on_bit_for_bit(problem, way, options, dtype):
    net, gradients = problem(dtype)
    whole = kron(net, **options)
    advance(whole, gradients, 0, K)
    state, weights = WAYS[way](whole.state_dict()), copy.deepcopy(net.state_dict())

    again, again_gradients = problem(dtype)
    again.load_state_dict(weights)
    resumed = kron(again, lr=7.0)  # everything, the learning rate too, comes from the saved state
    resumed.load_state_dict(state)
    advance(resumed, again_gradients, K, K)

    advance(whole, gradients, K, K)  # later, on the original: what was loaded must not share its storage
    for name, p in net.named_parameters():
        assert torch.equal(p, dict(again.named_parameters())[name]), name
    for mine, theirs in zip(whole.state.values(), resumed.state.values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine["Q"], theirs["Q"], strict=True))


@pytest.mark.parametrize("lost", ["step", "since_update", "seed"])
def test_what_a_lost_counter_would_do(problem, lost):
    net, gradients = problem()
    whole = kron(net)
    advance(whole, gradients, 0, K)
    state, weights = copy.deepcopy(whole.state_dict()), copy.deepcopy(net.state_dict())
    advance(whole, gradients, K, K)

    again, again_gradients = problem()
    again.load_state_dict(weights)
    state["param_groups"][0][lost] = 0
    resumed = kron(again)
    resumed.load_state_dict(state)
    advance(resumed, again_gradients, K, K)
    assert not torch.equal(net[0].weight, again[0].weight)


def test_a_deep_copy_of_optimizer_and_network_goes_on_alone(problem):
    net, gradients = problem()
    optimizer = kron(net)
    advance(optimizer, gradients, 0, K)
    twin_net, twin = copy.deepcopy((net, optimizer))
    before = twin_net[0].weight.clone()
    advance(optimizer, gradients, K, K)
    assert torch.equal(twin_net[0].weight, before)
    for t in range(K, 2 * K):
        batch = torch.Generator().manual_seed(1000 + t)
        x = torch.randn(6, 2, 5, 5, generator=batch)
        twin_net.zero_grad()
        (twin_net(x) - x.sum((1, 2, 3))[:, None]).square().mean().backward()
        twin.step()
    assert torch.equal(twin_net[0].weight, net[0].weight)


def test_state_is_a_flat_dict_of_tensors_and_lists_of_tensors(problem):
    net, gradients = problem(torch.bfloat16)
    optimizer = kron(net, update_probability=1.0)
    advance(optimizer, gradients, 0, 2)
    for p, state in optimizer.state.items():
        assert set(state) == {"step", "exp_avg", "Q"}
        assert state["step"].item() == 2
        assert state["exp_avg"].shape == p.shape
        assert state["exp_avg"].dtype == p.dtype
        assert [q.dtype for q in state["Q"]] == [torch.float32] * min(2, p.ndim)
    group = optimizer.state_dict()["param_groups"][0]
    assert (group["step"], group["since_update"], group["seed"]) == (2, 0, 14)
    assert all(value is None or isinstance(value, (int, float, str, list)) for value in group.values())


def test_a_state_for_another_network_is_refused(problem):
    net, _ = problem()
    with pytest.raises(ValueError, match="parameter group"):
        kron(net).load_state_dict(Kron([torch.nn.Parameter(torch.zeros(2))]).state_dict())
