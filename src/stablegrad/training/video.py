"""Videos of an evaluation's first game: played again from its seed and actions, so no score can depend on them."""

import importlib.util
import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stablegrad.envs import EnvSpec
from stablegrad.envs.render import Rendering
from stablegrad.errors import UserError
from stablegrad.runs import files
from stablegrad.runs.files import check_writable
from stablegrad.training.evaluate import Evaluation

_SUFFIXES = (".mp4", ".gif")


class Video:
    """A file to be written. Building it finds whatever is wrong (UserError), before any game is played."""

    def __init__(self, path: Path, spec: EnvSpec) -> None:
        problems = []
        if path.suffix not in _SUFFIXES:
            problems.append(f"--video {path}: the name ends in {' or '.join(_SUFFIXES)}")
        if not path.parent.is_dir():
            problems.append(f"--video {path}: there is no folder {path.parent}")
        if path.suffix == ".mp4" and not _installed("imageio_ffmpeg"):
            problems.append(
                f"--video {path}: mp4 needs an extra (pip install 'stablegrad[video]'); a name in .gif needs none"
            )
        if problems:
            raise UserError(problems)
        # Written aside under a longer name, which has to fit too.
        self.path, self._unfinished = path, path.with_name(f".{path.name}")
        for file in (path, self._unfinished):
            check_writable(file, f"--video {path}")
        self._rendering = Rendering(spec.for_evaluation())

    def write(self, evaluation: Evaluation) -> int:
        """Draw the evaluation's first game; how many pictures it has: one before the first step, one after each.

        UserError where the game does not come out as it was scored.
        """
        score, pictures = 0.0, 0

        def shown() -> Iterable[np.ndarray]:
            nonlocal score, pictures
            for picture, score in self._rendering.play(evaluation.first_seed, evaluation.first_actions):  # noqa: B007
                pictures += 1
                yield picture

        save = _save_gif if self.path.suffix == ".gif" else _save_mp4
        try:
            save(self._unfinished, shown(), self._rendering.pictures_per_second)
            if score != evaluation.scores[0]:
                raise UserError(
                    f"the game that was scored {evaluation.scores[0]:g} played again to {score:g}: the environment is"
                    " not a function of its seed and actions, so there is no video of it"
                )
            files.sync(self._unfinished)
            files.rename(self._unfinished, self.path)
        except OSError as error:
            raise files.DiskError(self.path, "written", error) from error
        finally:
            files.remove(self._unfinished)
        return pictures

    def close(self) -> None:
        self._rendering.close()


def _save_mp4(path: Path, pictures: Iterable[np.ndarray], per_second: float) -> None:
    import imageio_ffmpeg

    remaining = iter(pictures)
    first = next(remaining)
    height, width, _ = first.shape
    writer = imageio_ffmpeg.write_frames(str(path), (width, height), fps=per_second, macro_block_size=2)
    writer.send(None)  # starts it: it takes pictures from now on
    try:
        for picture in itertools.chain((first,), remaining):
            writer.send(picture)
    finally:
        writer.close()


def _save_gif(path: Path, pictures: Iterable[np.ndarray], per_second: float) -> None:
    from PIL import Image

    first, *rest = map(Image.fromarray, pictures)
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=1000 / per_second, loop=0)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
