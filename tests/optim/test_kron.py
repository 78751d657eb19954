"""What Kron promises as an optimizer in somebody else's training loop."""

import pytest
import torch

from stablegrad.errors import UserError
from stablegrad.optim import Kron, psgd
from stablegrad.optim.kron import step_seed


def parameter(*shape, dtype=torch.float32):
    return torch.nn.Parameter(torch.ones(shape, dtype=dtype))


def run(net, gradients, optimizer, steps):
    for t in range(steps):
        gradients(t)
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_factors_move_at_the_published_moments():
    p = parameter(1)
    optimizer = Kron([p])
    moments = []
    for n in range(4500):
        p.grad = None  # the schedule counts steps, not gradients
        optimizer.step()
        if optimizer.param_groups[0]["since_update"] == 0:
            moments.append(n)
    assert moments[:501] == list(range(501))
    assert moments[501:504] == [502, 504, 506]  # from 501 on 1 / probability is above 1
    assert moments[-1] - moments[-2] == 34  # 1 / 0.03 = 33.3 steps must have passed
    assert len(moments) == 1273


@pytest.mark.parametrize(("probability", "moments"), [(1.0, [0, 1, 2, 3]), (0.5, [1, 3]), (0.4, [2]), (0.0, [])])
def test_a_fixed_probability_is_a_fixed_period(probability, moments):
    p = parameter(3, 2)
    optimizer = Kron([p], update_probability=probability)
    moved = []
    for n in range(4):
        before = [q.clone() for q in optimizer.state[p]["Q"]] if optimizer.state[p] else [torch.eye(3), torch.eye(2)]
        p.grad = torch.randn(3, 2, generator=torch.Generator().manual_seed(n))
        optimizer.step()
        if not all(torch.equal(a, b) for a, b in zip(before, optimizer.state[p]["Q"], strict=True)):
            moved.append(n)
    assert moved == moments


def test_the_update_is_clipped_to_its_root_mean_square():
    def update(gradient, **options):
        # In float64: float32 rounds 1 - 0.01 by 3e-6 of the 0.01 that is left of it.
        p = parameter(4, 5, dtype=torch.float64)
        p.grad = torch.full((4, 5), gradient, dtype=torch.float64)
        Kron([p], 1.0, update_probability=0.0, **options).step()
        return (p.detach() - 1).square().mean().sqrt().item()

    assert update(1000.0) == pytest.approx(1.1)
    assert update(0.01) == pytest.approx(0.01)
    assert update(1000.0, clip_rms=0.3) == pytest.approx(0.3)
    assert update(1000.0, clip_rms=float("inf")) == pytest.approx(1000.0)


def test_the_noise_stays_out_of_the_update():
    generator = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.zeros(4, 5, dtype=torch.float64))
    p.grad = torch.randn(4, 5, dtype=torch.float64, generator=generator) * 0.1
    optimizer = Kron([p], 1.0)
    optimizer.step()
    expected = psgd.precondition(optimizer.state[p]["Q"], p.grad)
    assert torch.allclose(-p, expected, rtol=1e-10, atol=0)


def test_a_silent_parameter_keeps_its_preconditioner():
    p = parameter(3, 2)
    optimizer = Kron([p], update_probability=1.0)
    generator = torch.Generator().manual_seed(0)
    preconditioners = []
    for t in range(1520):
        p.grad = torch.randn(3, 2, generator=generator) if t < 20 else torch.zeros(3, 2)
        optimizer.step()
        preconditioners.append(torch.kron(*optimizer.state[p]["Q"]))
    assert torch.allclose(preconditioners[-1], preconditioners[19])
    assert not torch.allclose(preconditioners[19], preconditioners[18])
    p.grad = torch.randn(3, 2, generator=generator)
    optimizer.step()
    assert p.isfinite().all()

    # The published rule has no such brake: with the gradient gone the factors grow geometrically.
    factors = [torch.eye(3), torch.eye(2)]
    for _ in range(400):
        noise = torch.randn(3, 2, generator=generator)
        psgd.update_factors_(factors, torch.zeros(3, 2), noise, precond_lr=0.1)
    assert factors[0].abs().max() > 1e5


def test_factors_are_balanced_at_their_moments():
    p = parameter(3, 2)
    optimizer = Kron([p], seed=14)  # which balances at step 10
    generator = torch.Generator().manual_seed(0)
    ratios = []
    for t in range(11):
        p.grad = torch.randn(3, 2, generator=generator)
        if t == 5:
            optimizer.state[p]["Q"][0].mul_(1e3)
            optimizer.state[p]["Q"][1].mul_(1e-3)
        optimizer.step()
        left, right = (q.abs().max().item() for q in optimizer.state[p]["Q"])
        ratios.append(left / right)
    assert ratios[9] > 1e5
    assert ratios[10] == pytest.approx(1, abs=0.3)


def test_one_update_in_a_hundred_balances():
    assert 150 < sum((step_seed(0, 0, step) >> 32) < 0.01 * 2**32 for step in range(20_000)) < 250


def test_the_global_generator_is_not_touched(problem):
    net, gradients = problem()
    optimizer = Kron(net.parameters())
    gradients(0)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    optimizer.step()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_result_depends_on_the_seed_and_nothing_else(problem):
    def result(seed, global_seed):
        torch.manual_seed(global_seed)
        net, gradients = problem()
        return run(net, gradients, Kron(net.parameters(), 1e-2, seed=seed), 5)

    assert torch.equal(result(1, 0), result(1, 9))
    assert not torch.equal(result(1, 0), result(2, 0))


def test_two_groups_draw_different_noise():
    a, b = parameter(4, 4), parameter(4, 4)
    optimizer = Kron([{"params": [a]}, {"params": [b]}])
    a.grad = b.grad = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    assert not torch.equal(optimizer.state[a]["Q"][0], optimizer.state[b]["Q"][0])


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_tensor_learning_rate_does_what_a_float_does(problem, shape):
    def result(lr):
        net, gradients = problem()
        return run(net, gradients, Kron(net.parameters(), lr, weight_decay=0.1), 8)

    assert torch.equal(result(3e-3), result(torch.full(shape, 3e-3)))
    assert not torch.equal(result(3e-3), result(torch.full(shape, 3.1e-3)))


def test_gradients_are_left_as_they_are(problem):
    net, gradients = problem()
    gradients(0)
    before = [p.grad.clone() for p in net.parameters()]
    Kron(net.parameters()).step()
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), before, strict=True))


def test_a_parameter_without_a_gradient_is_left_alone():
    a, b = parameter(2, 2), parameter(2, 2)
    optimizer = Kron([a, b], 0.1)
    a.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(b, torch.ones(2, 2))
    assert b not in optimizer.state
    assert not torch.equal(a, torch.ones(2, 2))


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (4, 0, 2, 2)])
def test_a_parameter_without_elements_is_left_alone(problem, shape):
    """The parameters beside it move as they do without it, and its state can be saved and loaded."""
    net, gradients = problem()
    empty = torch.nn.Parameter(torch.zeros(shape))
    with_it = Kron([empty, *net.parameters()], 0.01)
    empty.grad = torch.zeros(shape)
    moved = run(net, gradients, with_it, 5)
    again, its_gradients = problem()
    assert torch.equal(moved, run(again, its_gradients, Kron(again.parameters(), 0.01), 5))
    with_it.load_state_dict(with_it.state_dict())
    run(net, gradients, with_it, 1)


def test_a_late_gradient_is_debiased_by_its_own_count():
    a, b = parameter(2, 2), parameter(2, 2)
    optimizer = Kron([a, b], 1.0, update_probability=0.0)
    for t in range(5):
        a.grad = torch.full((2, 2), 0.5)
        b.grad = torch.full((2, 2), 0.5) if t == 4 else None
        optimizer.step()
    assert torch.allclose(b, torch.full((2, 2), 0.5))  # one full step of 0.5, not of 0.5 * 0.1 / (1 - 0.9^5)


def test_closure_and_groups_with_options_of_their_own():
    a, b = parameter(2, 2), parameter(2, 2)
    groups = [{"params": [a], "lr": 0.5}, {"params": [b], "weight_decay": 0.5}]
    optimizer = Kron(groups, 0.25, update_probability=0.0)

    def closure():
        optimizer.zero_grad()
        loss = a.sum() + b.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 8
    assert torch.allclose(a, torch.full((2, 2), 0.5))
    assert torch.allclose(b, torch.full((2, 2), 1 - 0.25 * (1 + 0.5)))


def test_a_group_added_later_starts_its_own_schedule():
    a, b = parameter(2, 2), parameter(2, 2)
    optimizer = Kron([a])
    for _ in range(3):
        a.grad = torch.ones(2, 2)
        optimizer.step()
    optimizer.add_param_group({"params": [b]})
    assert [group["step"] for group in optimizer.param_groups] == [3, 0]


def test_a_learning_rate_scheduler_drives_it():
    p = parameter(2, 2)
    optimizer = Kron([p], 1.0, update_probability=0.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for _ in range(2):
        p.grad = torch.full((2, 2), 0.1)
        optimizer.step()
        scheduler.step()
    assert torch.allclose(p, torch.full((2, 2), 1 - 0.1 - 0.05))


def test_a_transposed_parameter_and_channels_last_do_not_matter(problem):
    def result(memory_format):
        net, gradients = problem()
        return run(net.to(memory_format=memory_format), gradients, Kron(net.parameters(), 1e-2), 5)

    assert torch.allclose(result(torch.channels_last), result(torch.contiguous_format), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lr": -1.0}, "lr must not be negative"),
        ({"lr": float("nan")}, "lr must not be negative"),
        ({"lr": torch.ones(2)}, "lr must be one number"),
        ({"b1": 1.0}, "b1 must be in"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative"),
        ({"precond_lr": -0.1}, "precond_lr must not be negative"),
        ({"clip_rms": 0.0}, "clip_rms must be positive"),
        ({"update_probability": 1.5}, "update_probability must be in"),
        ({"conv_view": "publish"}, "unknown conv_view 'publish' .did you mean 'published'"),
    ],
)
def test_a_mistake_gets_one_sentence(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Kron([parameter(2)], **options)
    with pytest.raises(UserError, match=sentence):
        Kron([{"params": [parameter(2)], **options}])


def test_a_sparse_gradient_is_refused_not_ignored():
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(UserError, match="sparse=False"):
        Kron(embedding.parameters()).step()


def test_nothing_is_printed(capsys, problem):
    net, gradients = problem()
    run(net, gradients, Kron(net.parameters()), 2)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.needs("CUDA")
def test_cuda_does_what_the_cpu_does_without_waiting_for_the_device(problem):
    net, _ = problem()
    net.cuda()
    optimizer = Kron(net.parameters(), torch.tensor(1e-2, device="cuda"))
    generator = torch.Generator("cuda").manual_seed(0)
    for p in net.parameters():
        p.grad = torch.randn(p.shape, device="cuda", generator=generator)
    optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(p.isfinite().all() for p in net.parameters())
