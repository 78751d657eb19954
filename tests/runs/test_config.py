"""RunConfig: what is asked for becomes what is used, and what is recorded is what is used."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from stablegrad import settings
from stablegrad.agents import AGENTS
from stablegrad.cli import main
from stablegrad.errors import UserError
from stablegrad.runs import published
from stablegrad.runs.config import RunConfig, differences, known_fields, section_types
from stablegrad.runs.folder import RunFolder

REPO = Path(__file__).parents[2]


def test_bare_pqn_is_the_published_default():
    flat = RunConfig.resolve("pqn", {}).flat()
    expected = {
        "env_id": "Breakout-v5", "total_timesteps": 10_000_000, "num_envs": 128, "num_steps": 32, "gamma": 0.99,
        "learning_rate": 2.5e-4, "optimizer": "radam", "q_lambda": 0.65, "num_minibatches": 32, "update_epochs": 2,
        "max_grad_norm": 10.0, "start_e": 1.0, "end_e": 0.005, "exploration_fraction": 0.1, "use_ln": True,
        "mlp_type": "default", "mlp_width": "small", "mlp_depth": "small", "cnn_size": "medium",
        "activation_fn": "relu",
        "repeat_action_probability": 0.0, "life_loss": "signal", "noop_max": 30, "max_episode_steps": 27_000,
        "reward_clip": True, "full_action_space": False,
    }  # fmt: skip
    assert {name: flat[name] for name in expected} == expected


def test_bare_ppo_is_the_published_default_with_adam():
    flat = RunConfig.resolve("ppo", {}).flat()
    expected = {
        "num_envs": 8, "num_steps": 128, "gamma": 0.99, "gae_lambda": 0.95, "num_minibatches": 4, "update_epochs": 4,
        "clip_coef": 0.1, "clip_vloss": True, "ent_coef": 0.01, "vf_coef": 0.5, "max_grad_norm": 0.5, "norm_adv": True,
        "anneal_lr": True, "learning_rate": 2.5e-4, "optimizer": "adam", "optimizer_eps": 1e-5, "use_ln": False,
    }  # fmt: skip
    assert {name: flat[name] for name in expected} == expected


def test_the_third_of_kron_is_taken_once():
    config = RunConfig.resolve("pqn", {"optimizer": "kron", "learning_rate": 3e-4})
    assert config.optimizer.learning_rate == pytest.approx(1e-4, rel=1e-12)
    again = RunConfig.from_flat(json.loads(json.dumps(config.flat())))
    assert again == config
    own = RunConfig.resolve("pqn", {"optimizer": "kron", "learning_rate": 3e-4, "lr_scale": 1.0})
    assert own.optimizer.learning_rate == 3e-4


@pytest.mark.parametrize("algo", list(AGENTS))
def test_a_config_survives_json(algo):
    config = RunConfig.resolve(algo, {})
    assert RunConfig.from_flat(json.loads(json.dumps(config.flat()))) == config


@pytest.mark.parametrize("algo", list(AGENTS))
def test_every_setting_has_one_section_and_a_help_text(algo):
    names = [f.name for section in section_types(algo).values() for f in dataclasses.fields(section) if f.init]
    assert len(names) == len(set(names))
    missing = [name for name, field in known_fields(algo).items() if not field.metadata.get("help")]
    assert missing == []


@pytest.mark.parametrize("algo", list(AGENTS))
def test_every_setting_is_read_somewhere(algo):
    """A config field that nothing reads lies: look for `.name`, or the name in a string, outside its declaration."""
    source = "\n".join(path.read_text() for path in (REPO / "src").rglob("*.py"))
    unread = []
    for name in known_fields(algo):
        declared = len(re.findall(rf"^    {name}: ", source, re.MULTILINE))
        read = len(re.findall(rf"\.{name}\b|[\"']{name}[\"']", source))
        if declared and not read:
            unread.append(name)
    assert unread == []


def test_all_problems_are_reported_at_once_with_the_nearest_name():
    with pytest.raises(UserError) as caught:
        RunConfig.resolve(
            "pqn",
            {
                "env_id": "Brekout-v5",
                "mlp_type": "multiskp",
                "gamma": "2",
                "num_env": 3,
                "optimizer": "krom",
                "seed": -1,
            },
        )
    text = "\n".join(caught.value.problems)
    for part in ("Breakout", "multiskip_residual", "--gamma", "num_envs", "'kron'", "--seed"):
        assert part in text
    assert len(caught.value.problems) == 6


def test_sizes_that_do_not_fit_together_are_named():
    with pytest.raises(UserError, match="4096 rows cannot be cut into --num_minibatches 31"):
        RunConfig.resolve("pqn", {"num_minibatches": 31})


def test_a_setting_of_kron_is_refused_elsewhere():
    with pytest.raises(UserError, match="--conv_view belongs to kron"):
        RunConfig.resolve("pqn", {"conv_view": "published"})


def test_identity_is_of_what_changes_the_result_only():
    base = RunConfig.resolve("pqn", {})
    assert RunConfig.resolve("pqn", {"checkpoint_every": 7, "track": "tensorboard"}).identity == base.identity
    assert RunConfig.resolve("pqn", {"env_id": "ALE/Breakout-v5"}).identity == base.identity
    assert RunConfig.resolve("pqn", {"gamma": 0.98}).identity != base.identity
    assert RunConfig.resolve("pqn", {"seed": 2}).identity != base.identity


def test_differences_name_the_setting_and_both_values():
    config = RunConfig.resolve("pqn", {})
    assert differences(config.flat(), config) == []
    assert differences({**config.flat(), "gamma": 0.5}, config) == [
        "--gamma: the checkpoint has 0.5, the run's config 0.99"
    ]


def test_faithful_sets_every_named_published_behaviour_and_a_given_value_wins():
    plain = RunConfig.resolve("pqn", {}).flat()
    faithful = RunConfig.resolve("pqn", {"faithful": True}).flat()
    changed = {name: value for name, value in faithful.items() if plain[name] != value}
    assert changed == {
        "bootstrap_truncated": False,
        "scores_run_on": True,
        "diagnostics_batch": 128,
        "matmul_precision": "high",
    }
    assert RunConfig.resolve("pqn", {"faithful": True, "optimizer": "kron"}).optimizer.conv_view == "published"
    assert RunConfig.resolve("pqn", {"faithful": True, "scores_run_on": False}).budget.scores_run_on is False


@pytest.mark.parametrize("script", [script for script in published.FLAGS if script in AGENTS])
def test_every_published_flag_is_kept_or_named_with_its_successor(script):
    known = {*known_fields(script), *getattr(AGENTS[script], "aliases", {})}
    lost = [flag for flag in published.FLAGS[script] if flag not in known and not published.dropped_flag(script, flag)]
    assert lost == []
    both = [flag for flag in published.DROPPED if flag in known and published.dropped_flag(script, flag)]
    assert both == []


def test_a_dropped_flag_fails_naming_its_successor():
    with pytest.raises(UserError, match="--device cuda"):
        RunConfig.resolve("pqn", {"cuda": "true"})


def test_the_page_of_published_flags_is_current(capsys):
    assert main(["list", "published_flags"]) == 0
    assert capsys.readouterr().out == (REPO / "docs" / "published_flags.md").read_text(encoding="utf-8")


AGENT = """
from dataclasses import dataclass
from stablegrad.agents.pqn import PQN, PQNConfig
from stablegrad.settings import setting

@dataclass(frozen=True, kw_only=True)
class Config(PQNConfig):
    {field}

class Mine(PQN):
    Config = Config
"""
FIELDS = {"old": "pass", "later": "warmth: int = setting(3, 'later', since=2)",
          "changed": "warmth: int = setting(3, 'later, and on by default', since=2, before=0)",
          "careless": "warmth: int = setting(3, 'not marked as later')"}  # fmt: skip


@pytest.fixture
def versions(tmp_path):
    """One agent, as several versions of its file define it."""
    for name, field in FIELDS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(AGENT.format(field=field))
    return {name: f"{tmp_path / name / 'mine.py'}:Mine" for name in FIELDS}


def test_a_setting_that_came_later_leaves_old_runs_their_name_and_their_checkpoints(versions):
    def recorded_by_old(algo):
        return {**RunConfig.resolve(versions["old"], {"env_id": "CartPole-v1"}).flat(), "algo": algo}

    old = RunConfig.from_flat(recorded_by_old(versions["old"]))
    later = RunConfig.from_flat(recorded_by_old(versions["later"]))
    assert (later.agent.warmth, later.name) == (3, old.name)
    assert differences(recorded_by_old(versions["later"]), later) == []
    assert RunConfig.resolve(versions["later"], {"env_id": "CartPole-v1", "warmth": 4}).name != old.name

    changed = RunConfig.from_flat(recorded_by_old(versions["changed"]))
    assert (changed.agent.warmth, changed.name) == (0, old.name)
    assert differences(recorded_by_old(versions["changed"]), changed) == []
    fresh = RunConfig.resolve(versions["changed"], {"env_id": "CartPole-v1"})
    assert (fresh.agent.warmth, fresh.name != old.name) == (3, True)
    assert differences(recorded_by_old(versions["changed"]), fresh) == [
        "--warmth: the checkpoint has 0, the run's config 3"
    ]

    careless = RunConfig.from_flat(recorded_by_old(versions["careless"]))
    assert careless.name != old.name, "without `since` every old run is a stranger"


def test_a_setting_of_a_later_version_is_named_with_the_version_to_install(tmp_path):
    config = RunConfig.resolve("pqn", {"env_id": "CartPole-v1"})
    folder = RunFolder.create(tmp_path / "run", config)
    flat = {**config.flat(), "telepathy": 3}
    assert differences(flat, config) == [
        "--telepathy: the checkpoint has 3, and this version of stablegrad knows no such setting"
    ]
    (folder.path / "config.json").write_text(json.dumps(flat))
    manifest = json.loads((folder.path / "manifest.json").read_text())
    assert manifest["settings"] == settings.VERSION
    (folder.path / "manifest.json").write_text(json.dumps({**manifest, "stablegrad": "9.1"}))
    with pytest.raises(UserError, match=r"does not know \(--telepathy\): stablegrad 9.1 made it"):
        _ = folder.config


def test_a_checkpoint_of_another_algorithm_is_told_and_what_it_names_is_not_imported(tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemError('imported')")
    config = RunConfig.resolve("pqn", {"env_id": "CartPole-v1"})
    for algo in ("ppo", f"{tmp_path / 'evil.py'}:Mine", "gone.py:Mine"):
        recorded = {**config.flat(), "algo": algo}
        assert differences(recorded, config) == [f"--algo: the checkpoint has '{algo}', the run's config 'pqn'"]
