"""One workplace for all injections of a process."""

import pytest
import torch
from injections import Workplace
from scenes import surroundings


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with surroundings():
        yield Workplace(tmp_path_factory.mktemp("work"))
    torch.set_num_threads(threads)
