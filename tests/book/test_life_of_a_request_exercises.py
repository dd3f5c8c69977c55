"""The exercises of docs/serving/life_of_a_request.md, solved."""

import tinystar_np as ts
from tinystar_np.cache.pool import Pool
from tinystar_np.serving.statistics import Turn


def test_blocks_of_three_texts() -> None:
    # 100 tokens are six full blocks, which are shared, and four tokens more. The rest is each text's own: 120
    # tokens take 8 blocks, 130 and 140 take 9.
    assert 6 + (8 - 6) + (9 - 6) + (9 - 6) == 14
    assert 8 + 9 + 9 == 26
    model, _ = ts.load("stories")
    pool = Pool(model, blocks=40, states=0, rows=3)
    for number, length in enumerate((120, 130, 140)):
        ids = [5] * 100 + [6 + number] * (length - 100)
        text = pool.text(ids)
        assert pool.begin(text, ids, length, most_cached=length - 1) is not None
        assert pool.make_room(text, length)
        pool.note(text, ids, length)  # as if it were read
    assert pool.blocks.in_use == 14


def test_the_same_prompt_twice() -> None:
    model, _ = ts.load("stories")
    for length, cached in ((64, 48), (65, 64)):
        with ts.Engine(model) as engine:
            for _ in range(2):
                handle = engine.submit([5] * length, max_new_tokens=1)
                handle.result()
        # The last token is read in any case, for the logits after it. Of 64 it stands in the fourth block,
        # and a block is shared as a whole or not at all.
        assert handle.usage.cached == cached


def test_four_completions_of_one_prompt() -> None:
    model, tokenizer = ts.load("stories")
    assert tokenizer is not None
    prompt = "One day, Lily and her mom went to the big park to play with a red ball. Then Lily saw"
    turns: list[Turn] = []
    with ts.Engine(model, tokenizer, on_turn=turns.append) as engine:
        handles = [engine.submit(prompt, max_new_tokens=20, seed=seed) for seed in range(4)]
        texts = [handle.result() for handle in handles]
    tokens = len(tokenizer.encode(prompt))
    full = (tokens - 1) // 16 * 16  # those in full blocks, without the last token
    read = [sum(turn.read.get(handle, 0) for turn in turns) for handle in handles]
    assert read == [tokens, tokens - full, tokens - full, tokens - full]
    assert [handle.usage.cached for handle in handles] == [0, full, full, full]
    assert len(set(texts)) == 4
    for seed, text in enumerate(texts):
        assert text == ts.generate(model, tokenizer, prompt, max_new_tokens=20, seed=seed)
