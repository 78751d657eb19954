"""The flags of the published scripts, and what became of those that are not ours. Torch-free data.

Source: `src/utils/args.py`, `src/dqn.py`, `src/rainbow.py`, `src/cifar.py` of the published code (main@5018636).
`docs/published_flags.md` is made from here by `stablegrad list published_flags`.
"""

from typing import NamedTuple


class Dropped(NamedTuple):
    """A published flag that is not ours: `successor` is what to write instead, if anything is."""

    scripts: str
    successor: str
    reason: str


_ALL = "pqn ppo dqn rainbow"

_SHARED = (
    "seed env_id total_timesteps learning_rate num_envs gamma optimizer cnn_type mlp_type mlp_width mlp_depth use_ln"
)
_ON_POLICY = (
    "exp_name torch_deterministic cuda num_logs num_img_logs wandb_project_id anneal_lr num_steps num_minibatches"
    " update_epochs max_grad_norm cnn_size activation_fn batch_size minibatch_size num_iterations measure_burnin"
    " compile cudagraphs"
)
_OFF_POLICY = (
    "exp_name torch_deterministic cuda track wandb_project_name wandb_entity capture_video save_model upload_model"
    " hf_entity buffer_size tau target_network_frequency batch_size start_e end_e exploration_fraction"
    " learning_starts train_frequency"
)
FLAGS: dict[str, tuple[str, ...]] = {
    "pqn": tuple(f"{_SHARED} {_ON_POLICY} start_e end_e exploration_fraction q_lambda use_spectral_norm".split()),
    "ppo": tuple(
        f"{_SHARED} {_ON_POLICY} gae_lambda norm_adv clip_coef clip_vloss ent_coef vf_coef target_kl"
        " shared_trunk".split()
    ),
    "dqn": tuple(f"{_SHARED} {_OFF_POLICY}".split()),
    "rainbow": tuple(
        f"{_SHARED} {_OFF_POLICY} n_step prioritized_replay_alpha prioritized_replay_beta prioritized_replay_eps"
        " n_atoms v_min v_max".split()
    ),
    "cifar": (
        "mlp_type",
        "mlp_depth",
        "mlp_width",
        "optimizer",
        "dataset",
        "non_stationary",
        "batch_size",
        "epochs",
        "lr",
        "use_ln",
    ),
}
"""Every flag of each published script."""

DROPPED: dict[str, Dropped] = {
    "exp_name": Dropped(_ALL, "--run_dir", "a run is named by its folder"),
    "torch_deterministic": Dropped(_ALL, "", "the published flag's help said the opposite of what it did"),
    "cuda": Dropped(_ALL, "--device cuda", "the device is named"),
    "num_logs": Dropped("pqn ppo", "--log_every", "the interval is given in steps"),
    "num_img_logs": Dropped("pqn ppo", "", "nothing read it"),
    "wandb_project_id": Dropped("pqn ppo", "--track wandb", "the run folder is the record; trackers mirror it"),
    "wandb_project_name": Dropped("dqn rainbow", "--track wandb", "the run folder is the record; trackers mirror it"),
    "wandb_entity": Dropped("dqn rainbow", "--track wandb", "the run folder is the record; trackers mirror it"),
    "capture_video": Dropped("dqn rainbow", "stablegrad eval RUN --video FILE", "videos come from evaluation"),
    "save_model": Dropped("dqn rainbow", "--checkpoint_every", "every run ends with a checkpoint"),
    "upload_model": Dropped("dqn rainbow", "", "nothing read it"),
    "hf_entity": Dropped("dqn rainbow", "", "nothing read it"),
    "batch_size": Dropped("pqn ppo", "", "it is num_envs * num_steps"),
    "minibatch_size": Dropped("pqn ppo", "--num_minibatches", "it is num_envs * num_steps / num_minibatches"),
    "num_iterations": Dropped("pqn ppo", "--total_timesteps", "it is computed"),
    "measure_burnin": Dropped("pqn ppo", "stablegrad bench", "speed is measured apart from training"),
    "compile": Dropped("pqn ppo", "", "compiled paths come when they are proven equal to the plain one"),
    "cudagraphs": Dropped("pqn ppo", "", "graphed paths come when they are proven equal to the plain one"),
}


def dropped_flag(algo: str, name: str) -> str | None:
    """The sentence for a published flag that `algo` does not have, or None when it is no such flag."""
    entry = DROPPED.get(name)
    if entry is None or algo not in entry.scripts.split():
        return None
    instead = f"use {entry.successor} instead" if entry.successor else "leave it out"
    return f"--{name} of the published script is not a setting here ({entry.reason}): {instead}"


def markdown(known: dict[str, set[str]]) -> str:
    """The table of `docs/published_flags.md`; `known[script]` are the flags that the command of that name has."""
    lines = [
        "# The published scripts' flags",
        "",
        "Every flag of the published `pqn.py`, `ppo.py`, `dqn.py`, `rainbow.py` and `cifar.py`: kept, under another",
        "name, or dropped and why. Made by `stablegrad list published_flags > docs/published_flags.md`.",
        "",
        "| flag | scripts | here |",
        "|---|---|---|",
    ]
    for flag in sorted({flag for flags in FLAGS.values() for flag in flags}):
        scripts = [script for script, flags in FLAGS.items() if flag in flags]
        kept = [script for script in scripts if flag in known.get(script, set())]
        if kept:
            lines.append(f"| `--{flag}` | {', '.join(kept)} | the same |")
        gone = [script for script in scripts if script not in kept]
        if gone:
            entry = DROPPED[flag]
            here = f"`{entry.successor}`" if entry.successor else "dropped"
            lines.append(f"| `--{flag}` | {', '.join(gone)} | {here}: {entry.reason} |")
    return "\n".join(lines) + "\n"
