"""A user's mistake: exit code 2, one message that starts with `error:`, no traceback, and nothing was started."""

import pytest

from stablegrad.cli import COMMANDS, main

MISTAKES = [
    ("", "usage"),
    ("pnq", "did you mean 'pqn'?"),
    ("pqn --env_id Brekout-v5", "Breakout"),
    ("pqn --env_id MinAtar/Brekout", "Breakout"),
    ("pqn --env_id CartPole-v9", "CartPole"),
    ("pqn --optimizer krn", "did you mean 'kron'?"),
    ("pqn --mlp_type multiskip", "multiskip_residual"),
    ("pqn --mlp_width huge", "known: small"),
    ("pqn --mlp_depth -3", "mlp_depth"),
    ("pqn --activation_fn rellu", "relu"),
    ("pqn --total_timesteps many", "whole number"),
    ("pqn --total_timesteps 0", "at least 1"),
    ("pqn --num_minibatches 7", "cannot be cut"),
    ("pqn --gama 0.9", "did you mean 'gamma'?"),
    ("pqn --gamma", "expected one argument"),
    ("pqn stray", "unexpected argument 'stray'"),
    ("pqn --use_ln perhaps", "true or false"),
    ("pqn --device cuda", "CUDA"),
    ("pqn --device quantum", "--device quantum"),
    ("pqn --env_id CartPole-v1 --noop_max 30", "noop_max"),
    ("pqn --env_id Pendulum-v1", "discrete"),
    ("pqn --config missing.toml", "No such file"),
    ("pqn --cuda", "--device cuda"),
    ("pqn --compile", "published"),
    ("pqn --conv_view published", "belongs to kron"),
    ("pqn --track tensorbord", "tensorboard"),
    ("ppo --target_kl -1", "must be positive"),
    ("train", "path/to/file.py:Name"),
    ("train nothing.py:Agent", "no such file"),
    ("resume nowhere", "is not a run"),
    ("eval nowhere", "is not a run"),
    ("eval . --episodes 0", "at least 1"),
    ("pqn --learning_rate inf", "--learning_rate 'inf': must be a finite number"),
    ("pqn --lr_scale nan", "finite"),
    ("pqn --learning_rate 1e38 --lr_scale 1e38", ", scaled: must be at most 3.4028234e+38"),
    ("ppo --clip_coef 1e39 --weight_decay 1e-39", "--weight_decay '1e-39': must be 0, or in size from"),
    ("rainbow --v_max 1e39", "--v_max '1e39'"),
    ("ppo --clip_coef inf --ent_coef nan --vf_coef=-inf --target_kl 1e400", "--target_kl"),
    ("rainbow --v_min=-inf --prioritized_replay_eps nan", "--v_min '-inf'"),
    ("dqn --optimizer_eps inf --max_grad_norm nan --weight_decay inf", "--weight_decay"),
    ("pqn --seed 18446744073709551616", "at most 18446744073709551615"),
    ("eval . --seed 18446744073709551616", "at most 18446744073709551615"),
    ("eval . --epsilon inf", "finite"),
    ("watch . --every inf", "finite"),
    ("watch . --every 1e9", "at most 86400"),
    ("report . --baseline=--", "--baseline: expected one argument"),
    ("demo --total_timesteps 5", "one rollout has 2,048 steps"),
    ("bench pqn --vary total_timesteps=x", "whole number"),
    ("cifar --epochs 1e12", "at most 1,000,000"),
    ("cifar --seeds 1e12", "at most 256"),
    ("check multiskip_residual --mlp_depth 1e8", "would take at least"),
    ("check impala --cnn_size 1e8", "--cnn_size 100000000"),
    ("check Breakout-v5 --frame_stack 1e7", "--num_envs 3 --frame_stack 10000000"),
    ("explain ranks/sranc", "ranks/srank"),
    ("list optimisers", "did you mean 'optimizers'?"),
]


@pytest.mark.parametrize(("line", "expected"), MISTAKES, ids=[line or "nothing" for line, _ in MISTAKES])
def test_a_mistake_is_one_clear_error(line, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    if line:
        assert captured.err.startswith("error: ")
        assert expected in captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


def test_several_mistakes_are_reported_together(capsys):
    assert main(["pqn", "--optimizer=krn", "--gamma=3", "--mlp-type=x"]) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    for part in ("krn", "--gamma", "mlp_type"):
        assert part in error


def test_traceback_is_shown_on_request():
    with pytest.raises(Exception, match="krn"):
        main(["pqn", "--optimizer", "krn", "--traceback"])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: stablegrad {command}" in text
    assert "example" in text


def test_underscores_and_hyphens_are_the_same(capsys):
    main(["pqn", "--total-timesteps", "x"])
    first = capsys.readouterr().err
    main(["pqn", "--total_timesteps", "x"])
    assert capsys.readouterr().err == first
