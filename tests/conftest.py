"""Fixtures that several tests share: small random models made by transformers, and real data."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before huggingface_hub is imported anywhere: no test may reach beyond this machine.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")  # torch imports NumPy before the package can say so
os.environ["TINYSTAR_NP_HISTORY"] = "off"  # what tests type is nobody's history

import pytest
import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GPT2Config, GPT2LMHeadModel

from tinystar_np.fast import threads

if TYPE_CHECKING:
    from server_process import Process

# A shell that starts the tests in the background tells them to ignore Ctrl-C; some of them press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)  # small models: more threads cost more than they bring

SMALL_GPT2 = {"vocab_size": 211, "n_positions": 96, "n_embd": 48, "n_layer": 3, "n_head": 4}


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window; what needs one is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser is on the PATH: {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as running:
        # Without a sandbox of its own it also starts as root, in a container.
        try:
            browser = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:  # a name on the PATH may only say where to get the browser
            pytest.skip(f"{found} does not start: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def _gradients_stay_on() -> Iterator[None]:
    """Give torch its gradients back: the engine that measures transformers switches them off for good."""
    yield
    torch.set_grad_enabled(True)


@pytest.fixture
def one_blas_thread() -> Iterator[None]:
    """Leave NumPy's products to one thread of BLAS, for tests of many small models beside each other.

    A second one waits for a core that another worker of pytest has. The threads of fast/threads.py, which
    divide long texts and packed matrices, are as many as ever; what they do also gives BLAS its own back.
    """
    machine = threads._machine()
    for library in machine.blas:
        library.set_num_threads(1)
    yield
    for library in machine.blas:
        library.set_num_threads(machine.threads)


@pytest.fixture
def shared() -> Path:
    """The folder of real data beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"real data is not here: no folder {folder}")
    return folder


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter random values.

    transformers starts biases at 0 and gains at 1, under which a forgotten one changes nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_gain = name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight"))
            parameter.copy_(1 + 0.3 * noise if is_gain else 0.3 * noise)


def gpt2_reference(seed: int = 0, **overrides: Any) -> GPT2LMHeadModel:
    """Make a small transformers GPT-2 with every parameter random, in eager attention."""
    config = GPT2Config(**{**SMALL_GPT2, "bos_token_id": 0, "eos_token_id": 0, **overrides})
    config._attn_implementation = "eager"
    model = GPT2LMHeadModel(config).eval()
    randomise(model, seed)
    return model


@pytest.fixture
def save_gpt2(tmp_path: Path) -> Callable[..., tuple[GPT2LMHeadModel, Path]]:
    """Make such a model and save it as transformers does: (reference, directory)."""

    def save(seed: int = 0, **overrides: Any) -> tuple[GPT2LMHeadModel, Path]:
        reference = gpt2_reference(seed, **overrides)
        reference.save_pretrained(tmp_path / "model")
        return reference, tmp_path / "model"

    return save


@pytest.fixture
def talking_model(save_gpt2: Callable[..., tuple[GPT2LMHeadModel, Path]]) -> Path:
    """A directory with a small random GPT-2 that speaks in bytes: 256 tokens and an end of text."""
    _, directory = save_gpt2(vocab_size=257, eos_token_id=256, bos_token_id=256)
    save_byte_tokenizer(directory)
    return directory


def save_byte_tokenizer(directory: Path) -> None:
    """Save a tokenizer that speaks in bytes: 256 tokens and an end of text."""
    letters = sorted(ByteLevel.alphabet())
    backend = Tokenizer(BPE({letter: i for i, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    backend.add_special_tokens([AddedToken("<|endoftext|>", normalized=False)])
    backend.save(str(directory / "tokenizer.json"))


@pytest.fixture(scope="session")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small chat model, whose name for clients is its last part."""
    from server_process import save_talker

    return save_talker(tmp_path_factory.mktemp("models") / "talker")


@pytest.fixture(scope="session")
def server(talker: Path) -> "Iterator[Process]":
    """A server of two models, stories and the talker, for all tests that do not end it."""
    from server_process import serving

    with serving("-m", "stories", "-m", str(talker), "--max-batch", "8", "--max-waiting", "24") as process:
        yield process
