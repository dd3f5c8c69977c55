"""What looking at a prompt with images must show, in every family of models: against runs by themselves."""

import json
from typing import Any

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

import tinystar_np as ts
from tinystar_np.seeing.glance import glance


def check_look(model: Any, processor: Any, text: str, images: list[NDArray], other: NDArray) -> None:
    """Look at a prompt; then patch its last image into the same prompt with another one.

    other  of the same size as the last image
    """
    seen = ts.look(model, processor, text, images=images, max_new_tokens=4, temperature=0.0)
    prompt = processor.prompt(text, images)
    assert list(seen.ids[: seen.prompt_length]) == prompt.ids
    # What was written piece by piece, with a cache, is what one pass over all of it says.
    logits = seen.recording["logits"][0]
    written = range(seen.prompt_length - 1, len(seen.ids) - 1)
    assert [int(logits[p].argmax()) for p in written] == list(seen.ids[seen.prompt_length :])
    alone = model(np.array(prompt.ids), images=prompt.images)
    assert_allclose(logits[: len(prompt.ids)], alone, rtol=1e-4, atol=2e-5)
    for image, given in zip(seen.images, prompt.images, strict=True):
        assert_array_equal(image.places, given.places)
        assert image.boxes.shape == (len(given.places), 4)
    position = seen.prompt_length - 1
    assert_allclose(seen.attributions(position, 5).values.sum(), logits[position, 5], rtol=1e-3, atol=1e-4)
    page = json.loads(seen.page().split('type="application/json">')[1].split("</script>")[0])
    assert len(page["images"]) == len(images)
    assert "refused" not in page["writers"]
    assert glance(seen, position).images
    check_patching(model, processor, text, images, other)


def check_patching(model: Any, processor: Any, text: str, images: list[NDArray], other: NDArray) -> None:
    """Hold ``patching`` against runs with a patch by hand, at an image's place and at the last token."""
    clean, corrupted = (processor.prompt(text, some) for some in (images, [*images[:-1], other]))
    ids = np.array(clean.ids)
    answer = (5, 9)
    images_of_both = {"images": clean.images, "corrupted_images": corrupted.images}
    found = ts.patching(model, ids, ids, answer=answer, taps=["residual"], **images_of_both)

    def measured(scores: NDArray) -> float:
        return float(scores[-1, answer[0]] - scores[-1, answer[1]])

    low, high = found.corrupted, found.clean
    assert_allclose(low, measured(model(ids, images=corrupted.images)), rtol=1e-3, atol=1e-4)
    with ts.record("blocks.*.residual") as run:
        model(ids, images=clean.images)
    for position in (int(clean.images[-1].places[-1]), len(ids) - 1):
        with ts.patch(run, "blocks.0.residual", positions=[position]):
            changed = measured(model(ids, images=corrupted.images))
        atol = 2e-4 / min(1.0, abs(high - low))
        assert_allclose(found.values[0, 0, position], (changed - low) / (high - low), rtol=1e-3, atol=atol)
