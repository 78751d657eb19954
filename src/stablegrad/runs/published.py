"""The flags of the published scripts that have another name here, or none. Torch-free data.

Flags that kept their name and meaning are not listed: the table in `docs/published_flags.md`, generated from
here and from the settings themselves by `python -m stablegrad.runs.published`, has them all.
"""

from typing import NamedTuple


class Dropped(NamedTuple):
    """A published flag that is not ours: `successor` is what to write instead, if anything is."""

    scripts: str
    successor: str
    reason: str


_ALL = "pqn ppo dqn rainbow"

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
    "start_e": Dropped("rainbow", "", "noisy layers explore; the published script never read it"),
    "end_e": Dropped("rainbow", "", "noisy layers explore; the published script never read it"),
    "exploration_fraction": Dropped("rainbow", "", "noisy layers explore; the published script never read it"),
}


def dropped_flag(algo: str, name: str) -> str | None:
    """The sentence for a published flag that `algo` does not have, or None when it is no such flag."""
    entry = DROPPED.get(name)
    if entry is None or algo not in entry.scripts.split():
        return None
    instead = f"use {entry.successor} instead" if entry.successor else "leave it out"
    return f"--{name} of the published script is not a setting here ({entry.reason}): {instead}"
