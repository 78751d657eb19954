"""The maths of reinforcement learning: pure functions on tensors, without state."""
