"""Tests have a home and caches of their own: what a user's home holds can neither help nor harm them."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = """
import json, logging
import matplotlib, torch
from fsspec.config import conf_dir
from huggingface_hub.constants import HF_HUB_CACHE
from pathlib import Path
places = [Path.home(), torch.hub.get_dir(), matplotlib.get_cachedir(), matplotlib.get_configdir(), conf_dir, HF_HUB_CACHE]
print(json.dumps(list(map(str, places))))
"""


def test_home_and_caches_lie_in_a_temporary_folder_here_and_in_a_subprocess():
    home = Path.home()
    assert home.parent == Path(tempfile.gettempdir())
    assert home.name.startswith("stillroom-home-")
    done = subprocess.run([sys.executable, "-c", LIBRARIES], capture_output=True, text=True, check=True)
    places = [Path(place) for place in json.loads(done.stdout)]
    assert len(places) == 6
    assert all(place.is_relative_to(home) for place in places), places
    assert Path(os.environ["CROISSANT_CACHE"]).is_relative_to(home)  # which mlcroissant reads as it is imported
