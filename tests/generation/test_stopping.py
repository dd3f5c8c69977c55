import numpy as np
import pytest

from tinystar_np.generation.stopping import StopFilter


def passed_on(pieces, *stops):
    stop_filter, out = StopFilter(stops), []
    for piece in pieces:
        out.append(stop_filter.push(piece))
        if stop_filter.stopped:
            return "".join(out), True
    return "".join(out) + stop_filter.flush(), False


@pytest.mark.parametrize(
    ("text", "stops", "wanted"),
    [
        ("one two three", ("two",), "one "),
        ("one two three", ("three", "two"), "one "),
        ("one two three", ("four",), None),
        ("aaab", ("aab",), "a"),
        ("abababc", ("ababc",), "ab"),
        ("xabcx", ("abc", "b"), "xa"),  # "b" is complete before "abc"
        ("xabcx", ("abc", "bc", "c"), "x"),  # all end together: cut before the longest
        ("a\n\nb", ("\n\n",), "a"),
        ("\n\nb", ("\n\n",), ""),
        ("ends with a beginning of st", ("stop",), None),
        ("日本語。次", ("。",), "日本語"),
        ("no stops at all", (), None),
    ],
)
def test_cut_before_the_stop_string_wherever_the_borders_are(text, stops, wanted):
    expected = (text, False) if wanted is None else (wanted, True)
    assert passed_on([text], *stops) == expected
    assert passed_on(list(text), *stops) == expected
    for seed in range(20):
        cuts = np.sort(np.random.default_rng(seed).integers(0, len(text) + 1, 4))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert passed_on(pieces, *stops) == expected


def test_only_a_possible_beginning_is_kept_back():
    stop_filter = StopFilter(("stop",))
    assert [stop_filter.push(piece) for piece in ("a s", "t", "ay st", "o", "n", "e")] == [
        "a ",
        "",
        "stay ",
        "",
        "ston",
        "e",
    ]
    assert stop_filter.flush() == ""
    assert stop_filter.push("sto") == ""
    assert stop_filter.flush() == "sto"
    assert not stop_filter.stopped
