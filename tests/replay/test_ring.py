"""The ring against a naive twin that keeps whole stacks, and against what the usual rings do wrong."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_twins import ACTIONS, NaiveReplay, ScriptedEnv, live_slots, play

from stablegrad.envs.base import StepBatch
from stablegrad.errors import UserError
from stablegrad.replay.memory import estimate_bytes
from stablegrad.replay.ring import ReplayRing


def built(env: ScriptedEnv, *, capacity: int, **options) -> ReplayRing:
    return ReplayRing(
        env.space, ACTIONS, capacity=capacity, num_envs=env.num_envs, stack=env.stack, gamma=0.9, **options
    )


def assert_same(ring: ReplayRing, slots: np.ndarray, expected: dict) -> None:
    """The transitions at `slots` are those of the twin, whole stacks compared byte by byte."""
    batch = ring.gather(slots)
    for i, action in enumerate(batch.action.tolist()):
        obs, reward, successor, discount = expected[action]
        np.testing.assert_array_equal(batch.obs[i], obs)
        np.testing.assert_array_equal(batch.next_obs[i], successor)
        assert batch.reward[i] == pytest.approx(reward, abs=1e-5)
        assert batch.discount[i] == pytest.approx(discount, abs=1e-6)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    num_envs=st.integers(1, 4),
    stack=st.sampled_from([1, 2, 4]),
    padding=st.sampled_from(["zeros", "repeat", "frames"]),
    end_rate=st.sampled_from([0.05, 0.3, 0.8]),
    n_step=st.integers(1, 5),
    rows=st.integers(6, 30),
    steps=st.integers(1, 70),
    life_loss_ends=st.booleans(),
    clip_rewards=st.booleans(),
)
def test_every_transition_is_that_of_the_naive_twin(
    seed, num_envs, stack, padding, end_rate, n_step, rows, steps, life_loss_ends, clip_rewards
):
    env = ScriptedEnv(num_envs, seed=seed, stack=stack, padding=padding, end_rate=end_rate)
    options = {"life_loss_ends": life_loss_ends, "clip_rewards": clip_rewards}
    ring, twin = built(env, capacity=rows * num_envs, n_step=n_step, **options), NaiveReplay(num_envs, **options)
    slots = live_slots(play(env, ring, twin, steps))
    expected = twin.transitions(n_step, 0.9)
    assert len(ring) == len(slots)
    assert_same(ring, slots, expected)
    # Frames of 6 bytes leave room for the shortest episodes, so nothing but the capacity limits what is kept.
    newest = max(0, steps - rows) * num_envs
    assert set(ring.gather(slots).action.tolist()) == {action for action in expected if action >= newest}


def test_frames_that_run_out_before_rows_do_drop_the_oldest_rows_only():
    # Large frames, so that spare ones are few, and episodes of a step or two, which need many.
    env = ScriptedEnv(2, seed=0, frame=(120, 120), end_rate=0.6)
    ring, twin = built(env, capacity=2000, n_step=3), NaiveReplay(2)
    slots = live_slots(play(env, ring, twin, 1500))
    assert 500 < len(slots) < 1900
    assert len(ring) == len(slots)
    expected, actions = twin.transitions(3, 0.9), []
    for some in np.array_split(slots, 20):
        assert_same(ring, some, expected)
        actions += ring.gather(some).action.tolist()
    assert sorted(actions) == sorted(expected)[-len(actions) :]


def test_sampling_is_uniform_over_complete_transitions():
    env = ScriptedEnv(3, seed=1)
    ring = built(env, capacity=60, n_step=3)
    slots = live_slots(play(env, ring, None, 47))
    draws = ring.sample(60_000, np.random.default_rng(0)).slot
    assert set(draws.tolist()) == set(slots.tolist())
    counts = np.unique(draws, return_counts=True)[1]
    expected = len(draws) / len(slots)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < len(slots) + 5 * np.sqrt(2 * len(slots))


def test_a_sample_is_a_function_of_the_generator():
    env = ScriptedEnv(2, seed=1)
    ring = built(env, capacity=60)
    play(env, ring, None, 20)
    first, second = (ring.sample(16, np.random.default_rng(7)).slot for _ in range(2))
    np.testing.assert_array_equal(first, second)


def tape(ends: str) -> ReplayRing:
    """3-step replay of rewards 1. Observation t of an episode is [start + t]; `ends` has a letter a step: a dot,
    T(erminated) or t(runcated); after an end in step t the next episode starts at 100 (t + 1)."""
    space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    ring = ReplayRing(space, ACTIONS, capacity=50, n_step=3, gamma=0.5)
    now, one, no = 0.0, np.ones(1, np.float32), np.zeros(1, bool)
    ring.begin(np.array([[now]], np.float32))
    for number, letter in enumerate(ends):
        terminated, truncated = np.array([letter == "T"]), np.array([letter == "t"])
        final = np.array([[now + 1]], np.float32)[terminated | truncated]
        now = now + 1 if letter == "." else 100.0 * (number + 1)
        ring.add(
            np.array([number]),
            StepBatch(np.array([[now]], np.float32), one, terminated, truncated, no, final, ()),
        )
    return ring


def test_a_time_out_bootstraps_from_the_true_final_observation():
    ring = tape("....t.....")
    batch = ring.gather(np.arange(5))
    assert batch.next_obs[4].tolist() == [5.0], "not 500, the first observation of the next episode"
    assert batch.reward.tolist() == [1.75, 1.75, 1.75, 1.5, 1.0]
    assert batch.discount.tolist() == [0.125, 0.125, 0.125, 0.25, 0.5]
    assert batch.next_obs.ravel().tolist() == [3, 4, 5, 5, 5]


def test_the_next_row_would_be_the_wrong_successor_of_a_time_out():
    """The memory-saving layout in common use takes the next row's observation: it belongs to the next episode."""
    ring = tape("....t.....")
    next_rows_obs = ring.gather(np.array([5])).obs[0]
    assert next_rows_obs.tolist() == [500.0]
    assert next_rows_obs.tolist() != ring.gather(np.array([4])).next_obs[0].tolist()


def test_a_termination_bootstraps_nothing_and_its_tail_arrives():
    ring = tape("....T.")
    assert len(ring) == 5, "all five starts of the finished episode, none of the running one"
    batch = ring.gather(np.arange(5))
    assert batch.reward.tolist() == [1.75, 1.75, 1.75, 1.5, 1.0]
    assert batch.discount.tolist() == [0.125, 0.125, 0.0, 0.0, 0.0]


def loop_value(*, time_outs_end: bool) -> float:
    """V of a one-state loop with reward 1 and a time limit of four steps, by 3-step TD(0) on replayed samples."""
    space = spaces.Box(0, 1, (1,), np.float32)
    ring = ReplayRing(space, ACTIONS, capacity=64, n_step=3, gamma=0.9)
    obs, one, no = np.zeros((1, 1), np.float32), np.ones(1, np.float32), np.zeros(1, bool)
    ring.begin(obs)
    for number in range(40):
        end = np.array([number % 4 == 3])
        terminated, truncated = (end, no) if time_outs_end else (no, end)
        ring.add(np.array([number]), StepBatch(obs, one, terminated, truncated, no, obs[end], ()))
    rng, value = np.random.default_rng(0), 0.0
    for _ in range(300):
        batch = ring.sample(64, rng)
        value += 0.5 * float((batch.reward + batch.discount * value - value).mean())
    return value


def test_the_value_of_a_time_limited_loop_is_one_over_one_minus_gamma():
    assert loop_value(time_outs_end=False) == pytest.approx(10.0, abs=1e-3)


def test_treating_time_outs_as_ends_gives_the_wrong_value():
    assert loop_value(time_outs_end=True) < 4.0


def test_n_and_gamma_may_change_while_training():
    env = ScriptedEnv(2, seed=5)
    ring, twin = built(env, capacity=80, n_step=5), NaiveReplay(2)
    changes = play(env, ring, twin, 20)
    ring.n_step, ring.gamma = 2, 0.5
    changes += play(env, ring, twin, 1, first_action=1000)
    slots = live_slots(changes)
    expected = twin.transitions(2, 0.5)
    assert_same(ring, slots, expected)
    assert set(ring.gather(slots).action.tolist()) == set(expected)


def test_rows_that_leave_before_their_window_is_complete_are_never_ready():
    env = ScriptedEnv(2, seed=5, end_rate=0.1)
    ring, twin = built(env, capacity=16), NaiveReplay(2)
    ring.n_step = 100  # longer than the ring: only the ends of episodes complete a window
    slots = live_slots(play(env, ring, twin, 60))
    assert 0 < len(slots) == len(ring)
    expected = twin.transitions(100, 0.9)
    assert set(ring.gather(slots).action.tolist()) == {action for action in expected if action >= 2 * 52}


def test_continuing_from_a_saved_state_equals_going_on():
    def fresh():
        env = ScriptedEnv(3, seed=9)
        return env, built(env, capacity=60, n_step=3)

    env, ring = fresh()
    play(env, ring, None, 33)
    state = ring.state_dict()
    _, restored = fresh()
    restored.load_state_dict(state)
    twin_env = ScriptedEnv(3, seed=9)
    for _ in range(33):
        twin_env.step()
    for number in range(40):
        (left,), (right,) = play(env, ring, None, 1, 500 + number), play(twin_env, restored, None, 1, 500 + number)
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)
        first, second = (r.sample(8, np.random.default_rng(number)) for r in (ring, restored))
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_checkpoint_shares_all_segments_but_those_written_to_since():
    env = ScriptedEnv(2, seed=3, stack=1, frame=(400, 400), end_rate=0.0)
    ring = built(env, capacity=1200)

    def versions():
        state = ring.state_dict()
        return {segment.key: segment.version for segment in (*state["frames"]["segments"], *state["rows"])}

    play(env, ring, None, 300)
    before = versions()
    play(env, ring, None, 10)
    after = versions()
    assert len(before) >= 6
    changed = {key for key in after if before.get(key) != after[key]}
    assert "replay/rows/0" in changed
    assert len(changed) <= 3, "20 frames of 160 kB touch one or two segments of 16 MiB, and the rows one"


def test_state_is_returned_without_copying():
    env = ScriptedEnv(1, seed=3)
    ring = built(env, capacity=50)
    play(env, ring, None, 10)
    first = ring.state_dict()["frames"]["segments"][0].data
    play(env, ring, None, 1)
    again = ring.state_dict()["frames"]["segments"][0].data
    assert np.shares_memory(first, again)


def test_observations_that_do_not_slide_are_refused_rather_than_rebuilt_wrongly():
    space = spaces.Box(0, 255, (4, 40, 40), np.uint8)
    ring = ReplayRing(space, ACTIONS, capacity=50)
    rng, no = np.random.default_rng(0), np.zeros(1, bool)
    first, second = rng.integers(0, 255, (2, 1, 4, 40, 40), dtype=np.uint8)
    ring.begin(first)
    step = StepBatch(second, np.ones(1, np.float32), no, no, no, second[:0], ())
    with pytest.raises(UserError, match="build the replay with stack=1"):
        ring.add(np.zeros(1, np.int64), step)
    whole = ReplayRing(space, ACTIONS, capacity=50, stack=1)
    whole.begin(first)
    whole.add(np.zeros(1, np.int64), step)
    np.testing.assert_array_equal(whole.gather(np.array([0])).next_obs, second)


def test_continuous_actions_and_float_observations_keep_their_types():
    space, actions = spaces.Box(-1, 1, (5,), np.float32), spaces.Box(-1, 1, (2,), np.float32)
    ring = ReplayRing(space, actions, capacity=20, num_envs=2)
    no, action = np.zeros(2, bool), np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)
    obs = np.arange(10, dtype=np.float32).reshape(2, 5)
    ring.begin(obs)
    ring.add(action, StepBatch(obs + 1, np.ones(2, np.float32), no, no, no, obs[:0], ()))
    batch = ring.gather(np.arange(2))
    np.testing.assert_array_equal(batch.action, action)
    np.testing.assert_array_equal(batch.next_obs, obs + 1)
    assert (batch.obs.dtype, batch.reward.dtype, batch.discount.dtype) == (np.float32,) * 3


def test_a_ring_used_out_of_order_says_what_is_missing():
    env = ScriptedEnv(1, seed=0)
    ring = built(env, capacity=50, n_step=2)
    with pytest.raises(ValueError, match="begin"):
        ring.add(np.zeros(1), env.step())
    ring.begin(env.obs)
    with pytest.raises(ValueError, match="has begun already"):
        ring.begin(env.obs)
    with pytest.raises(ValueError, match="no complete transition"):
        ring.sample(1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="capacity of 8 is too small for 2 steps of 4"):
        ReplayRing(env.space, ACTIONS, capacity=8, num_envs=4, n_step=2)


@pytest.mark.parametrize(("capacity", "num_envs"), [(1000, 1), (40_000, 8)])
def test_what_is_allocated_is_what_was_estimated_and_holds_what_was_promised(capacity, num_envs):
    space, actions = spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(18)
    ring = ReplayRing(space, actions, capacity=capacity, num_envs=num_envs)
    assert ring.nbytes == estimate_bytes(space, actions, capacity=capacity, num_envs=num_envs)


def test_a_full_atari_ring_keeps_its_capacity_in_its_share_of_7_5_gb():
    # A 40th of a million transitions of 84x84 frames, written past its capacity, with episodes of 100 steps.
    capacity, num_envs = 25_000, 8
    space = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    ring = ReplayRing(space, spaces.Discrete(18), capacity=capacity, num_envs=num_envs, n_step=3)
    rng, no, reward = np.random.default_rng(0), np.zeros(8, bool), np.ones(8, np.float32)
    pool = rng.integers(0, 255, (32, num_envs, 84, 84), dtype=np.uint8)
    obs = np.zeros((num_envs, 4, 84, 84), np.uint8)
    obs[:, -1] = pool[0]
    ring.begin(obs)
    for number in range(1, capacity // num_envs + 200):
        successor = np.concatenate([obs[:, 1:], pool[number % 32, :, None]], axis=1)
        end = np.full(num_envs, number % 100 == 0)
        obs = np.where(end[:, None, None, None], 0, successor)
        obs[:, -1] = successor[:, -1]
        ring.add(np.full(num_envs, number % 18), StepBatch(obs, reward, end, no, no, successor[end], ()))
    assert len(ring) == capacity - 2 * num_envs  # the newest two rows wait for their third step
    assert ring.nbytes < 7.5e9 * capacity / 1_000_000 + 2**24, "16 MiB are spare whatever the capacity"
    stacked = 2 * 4 * 84 * 84 * capacity
    assert ring.nbytes < stacked / 7, "the usual buffer stores eight frames for each transition"
