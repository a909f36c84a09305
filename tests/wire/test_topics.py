"""Topics say who and what, and nothing but thirty-two hex digits can be a device."""

from collections.abc import Callable

import pytest

from wire.errors import BadTopic
from wire.topics import Topic, e_down, e_down_alarm, e_up, is_alarm_lane, parse, w_down, w_up

DEVICE = bytes(range(16))
HEX = "000102030405060708090a0b0c0d0e0f"


@pytest.mark.parametrize(
    ("made", "text", "meaning"),
    [
        (w_up(DEVICE, 1), f"vl/v1/w/{HEX}/up/1", Topic("w", DEVICE, 1)),
        (w_up(DEVICE, 4), f"vl/v1/w/{HEX}/up/4", Topic("w", DEVICE, 4)),
        (w_down(DEVICE), f"vl/v1/w/{HEX}/down", Topic("w", DEVICE, None)),
        (e_up(DEVICE, 2), f"vl/v1/e/{HEX}/up/2", Topic("e", DEVICE, 2)),
        (e_down(DEVICE), f"vl/v1/e/{HEX}/down", Topic("e", DEVICE, None)),
        (e_down_alarm(DEVICE), f"vl/v1/e/{HEX}/down-a", Topic("e", DEVICE, None)),
    ],
)
def test_a_topic_is_written_as_published_and_read_back(made: str, text: str, meaning: Topic) -> None:
    assert made == text
    assert parse(text) == meaning


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "vl",
        f"vl/v1/x/{HEX}/up/1",
        f"vl/v2/w/{HEX}/up/1",
        f"vl/v1/w/{HEX}/up/0",
        f"vl/v1/w/{HEX}/up/5",
        f"vl/v1/w/{HEX}/up/11",
        f"vl/v1/w/{HEX}/up/",
        f"vl/v1/w/{HEX}/up",
        f"vl/v1/w/{HEX}/down/1",
        f"vl/v1/w/{HEX}/down-a",  # a wearable has one lane
        f"vl/v1/e/{HEX}/down-b",
        f"vl/v1/w/{HEX}/down\n",
        f"vl/v1/w/{HEX}/up/1\n",
        f"vl/v1/w/{HEX}/up/\u0661",  # ARABIC-INDIC DIGIT ONE
        f"/vl/v1/w/{HEX}/up/1",
        f" vl/v1/w/{HEX}/up/1",
        f"vl/v1/w/{HEX.upper()}/up/1",
        f"vl/v1/w/{HEX[:-1]}/up/1",
        f"vl/v1/w/{HEX}0/up/1",
        f"vl/v1/w/{HEX[:-1]}g/up/1",
        "vl/v1/w/+/up/+",
        "vl/v1/w/#",
        f"vl/v1/w/{HEX[:-2]}/+/up/1",
        f"vl/v1/w/{HEX[:-1]}\0/up/1",
        "x" * 65_535,
    ],
)
def test_what_is_not_one_of_ours_is_refused(topic: str) -> None:
    with pytest.raises(BadTopic) as caught:
        parse(topic)

    assert caught.value.topic == topic
    assert len(str(caught.value)) < 500  # a long one does not fill the log


@pytest.mark.parametrize("make", [w_down, e_down])
def test_no_id_can_bring_a_wildcard_into_a_topic(make: Callable[[bytes], str]) -> None:
    wild = b"+/#%$\0\n" + bytes(9)

    topic = make(wild)

    assert not set(topic) & set("+#%$\0\n")
    assert parse(topic).device_id == wild


def test_only_alarms_between_edge_and_cloud_have_a_lane_of_their_own() -> None:
    assert [is_alarm_lane(topic) for topic in (e_up(DEVICE, 2), e_down_alarm(DEVICE))] == [True, True]
    assert not any(
        is_alarm_lane(topic) for topic in (e_up(DEVICE, 1), e_up(DEVICE, 3), e_down(DEVICE), w_up(DEVICE, 2))
    )
