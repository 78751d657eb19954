"""How large a network would be, said before any of it is allocated."""

from typing import Any

from gymnasium import spaces

from stablegrad.nn.build import encoder_for
from stablegrad.nn.spec import AUTO, ENCODERS, FEATURES, TRUNKS, NetworkSpec


def parameters(spec: NetworkSpec, observation_space: spaces.Space[Any], outputs: int) -> int:
    """Parameters of `build_network` of the same arguments, by formula: a hundred million blocks are counted at once.

    Of a user's own encoder or trunk, and of observations in several parts, none are counted. Raises UserError where
    the encoder does not fit the observations.
    """
    encoder, features = 0, 1
    if type(observation_space) is spaces.Box:
        name = encoder_for(observation_space) if spec.cnn_type == AUTO else spec.cnn_type
        size_of = getattr(ENCODERS[name], "size_of", None)
        if size_of is not None:
            encoder, features = size_of(observation_space.shape, spec)
    count = getattr(TRUNKS[spec.mlp_type], "parameters_of", None)
    trunk = 0 if count is None else count(features, FEATURES, spec)
    return encoder + trunk + (FEATURES + 1) * outputs
