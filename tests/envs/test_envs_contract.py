"""Every back end keeps the same promises, and every promise is one that a faulty environment breaks."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from envs_by_hand import BACK_ENDS, LADDER, build, ladder_hand, play_by_hand

from stablegrad.envs import EnvSpec
from stablegrad.envs.contract import Play, difference, random_actions, violations
from stablegrad.envs.episodes import EpisodicEnv
from stablegrad.envs.single import SingleSimulator


def played(factory, *, steps, num_envs=3, seed=1):
    """A play, the actions it was given, and the actions' environments."""
    env = factory(num_envs=num_envs, seed=seed, num_threads=1)
    try:
        actions = random_actions(env, steps, np.random.default_rng(seed))
        first = env.obs.copy()
        return Play(first, [env.step(row) for row in actions]), actions
    finally:
        env.close()


def differs_from_hand(factory, by_hand, *, limit, steps=120, session=0, num_envs=3):
    """Where a play first differs from the game played by hand; None where it does not."""
    play, actions = played(factory, steps=steps, num_envs=num_envs)
    return difference(play, play_by_hand(by_hand, actions=actions, seed=1, limit=limit, session=session))


@pytest.mark.parametrize("name", BACK_ENDS)
def test_no_promise_is_broken(name, monkeypatch):
    # A short session, so that a seed's end is crossed.
    monkeypatch.setattr("stablegrad.envs.atari.AtariSimulator.session_steps", 60)
    case = BACK_ENDS[name]
    assert violations(build(case.values), num_envs=2, steps=case.steps) == []


def test_every_row_of_atari_is_that_of_the_game_played_by_hand(monkeypatch):
    monkeypatch.setattr("stablegrad.envs.atari.AtariSimulator.session_steps", 60)
    case = BACK_ENDS["atari"]
    found = differs_from_hand(build(case.values), case.by_hand, limit=110, session=60, steps=case.steps, num_envs=2)
    assert found is None


@pytest.mark.parametrize("name", ["minatar", "gym", "file"])
def test_every_row_is_that_of_the_game_played_by_hand(name):
    case = BACK_ENDS[name]
    limit = case.values["max_episode_steps"]
    assert differs_from_hand(build(case.values), case.by_hand, limit=limit) is None


@pytest.mark.parametrize("name", ["minatar", "gym", "file"])
def test_the_plays_contain_what_they_are_to_test(name):
    play, _ = played(build(BACK_ENDS[name].values), steps=120)
    assert any(step.terminated.any() for step in play.steps)
    assert any(step.truncated.any() for step in play.steps)
    if name == "file":
        assert any(step.life_lost.any() for step in play.steps)
        assert any((step.life_lost & step.truncated).any() for step in play.steps) is False
        assert max(step.reward.max() for step in play.steps) == 12.0


class MadeUpRows(EpisodicEnv):
    """Resets a finished game on the next step, whose action it ignores: EnvPool's and Gymnasium's default."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.waiting = np.zeros(self.num_envs, bool)

    def step(self, actions):
        waiting = self.waiting
        shown = self.obs.copy()
        step = super().step(actions)
        self.waiting = step.ended & ~waiting
        obs = step.obs.copy()
        obs[self.waiting] = step.next_obs[self.waiting]
        obs[waiting] = shown[waiting]
        return replace(step, obs=obs, reward=np.where(waiting, 0, step.reward).astype(np.float32))


class ClippedReward(EpisodicEnv):
    def step(self, actions):
        step = super().step(actions)
        return replace(step, reward=np.sign(step.reward))


class NoFinalObservation(EpisodicEnv):
    """Shows the first observation of the next game as the last of the finished one."""

    def step(self, actions):
        step = super().step(actions)
        return replace(step, final_obs=step.obs[step.ended])


class LifeEndsGame(EpisodicEnv):
    """Reports a lost life as the end of the game, as ale-py's and EnvPool's options do."""

    def step(self, actions):
        step = super().step(actions)
        return replace(step, terminated=step.terminated | step.life_lost, life_lost=np.zeros_like(step.life_lost))


class TimeOutIsEnd(EpisodicEnv):
    def step(self, actions):
        step = super().step(actions)
        return replace(step, terminated=step.ended, truncated=np.zeros_like(step.truncated))


class ScoreRunsOn(EpisodicEnv):
    """Does not close the score of a game that was cut by the time limit: the published statistics."""

    def step(self, actions):
        running = self._score.copy()
        step = super().step(actions)
        cut = step.truncated
        self._score[cut] = running[cut] + step.reward[cut]
        return step


class TimeOutsNotLogged(EpisodicEnv):
    def step(self, actions):
        step = super().step(actions)
        return replace(step, episodes=tuple(end for end in step.episodes if step.terminated[end.env]))


class SameArray(EpisodicEnv):
    """Hands out one array again and again."""

    def step(self, actions):
        step = super().step(actions)
        if not hasattr(self, "handed_out"):
            self.handed_out = np.empty_like(step.obs)
        self.handed_out[:] = step.obs
        return replace(step, obs=self.handed_out)


class ForgetsTheEpisode(EpisodicEnv):
    """Restores the seeds, but begins the episodes anew."""

    def load_state_dict(self, state):
        self._episode = state["episode"].copy()
        self._begin(self._envs, self._envs)


class KeepsAnObject(EpisodicEnv):
    def state_dict(self):
        return {**super().state_dict(), "generator": np.random.default_rng()}


class WrongType(EpisodicEnv):
    def step(self, actions):
        step = super().step(actions)
        return replace(step, reward=step.reward.astype(np.float64))


class BothEnds(EpisodicEnv):
    def step(self, actions):
        step = super().step(actions)
        return replace(step, truncated=step.ended, terminated=step.ended)


def faulty(cls, *, num_envs, seed, num_threads):
    spec = EnvSpec.resolve(BACK_ENDS["file"].values)
    return cls(
        SingleSimulator(spec, num_envs=num_envs, num_threads=num_threads),
        seed=seed,
        max_episode_steps=spec.max_episode_steps,
    )


@pytest.mark.parametrize(
    ("cls", "field"),
    [
        (MadeUpRows, "obs"),
        (ClippedReward, "reward"),
        (NoFinalObservation, "final_obs"),
        (LifeEndsGame, "terminated"),
        (TimeOutIsEnd, "terminated"),
        (ScoreRunsOn, "episodes"),
        (TimeOutsNotLogged, "episodes"),
    ],
)
def test_play_by_hand_catches(cls, field):
    found = differs_from_hand(partial(faulty, cls), ladder_hand, limit=12)
    assert found is not None
    assert found.startswith(field)


def test_the_faulty_environments_are_faulty_by_their_fault_alone():
    assert violations(partial(faulty, EpisodicEnv)) == []
    assert differs_from_hand(partial(faulty, EpisodicEnv), ladder_hand, limit=12) is None


@pytest.mark.parametrize(
    ("cls", "sentence"),
    [
        (MadeUpRows, "a score or length is not that of the whole game"),
        (LifeEndsGame, "final_obs has not one row for each episode that ended"),
        (ScoreRunsOn, "a score or length is not that of the whole game"),
        (TimeOutsNotLogged, "episodes does not name the games that ended"),
        (SameArray, "arrays of a StepBatch are written into by later steps"),
        (ForgetsTheEpisode, "it plays on otherwise"),
        (KeepsAnObject, "its state cannot be stored: Generator"),
        (WrongType, "reward is not a finite float32"),
        (BothEnds, "both terminated and truncated"),
    ],
)
def test_the_checks_catch(cls, sentence):
    assert any(sentence in found for found in violations(partial(faulty, cls)))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Leaky", "it cannot be restored: environment"),
        ("Unseeded", "the same seed and actions under another number of threads give another play"),
        ("SharedStream", "the same seed and actions under another number of threads give another play"),
        ("OutOfBounds", "an observation lies outside the observation space"),
    ],
)
def test_the_checks_catch_a_users_fault(name, sentence):
    values = {"env_id": LADDER.replace("Ladder", name), "max_episode_steps": 12}
    found = violations(build(values))
    assert any(sentence in each for each in found), found
