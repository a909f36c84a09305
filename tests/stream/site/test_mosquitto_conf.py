"""Mosquitto's configuration file: what it requires of clients, and what no setting can put into it."""

import os
import pwd
from pathlib import Path

import pytest
from msgspec.structs import replace

from stream.site.mosquitto_conf import BrokerSettings, mosquitto_conf

ME = pwd.getpwuid(os.geteuid()).pw_name


def settings(folder: Path = Path("/srv/broker"), user: str = ME) -> BrokerSettings:
    return BrokerSettings(folder=folder, user=user)


class TestConfiguration:
    def test_only_tls_1_3_with_a_certificate_gets_in_and_the_name_in_it_is_the_name(self) -> None:
        lines = mosquitto_conf(settings()).splitlines()

        for line in (
            "listener 8883",
            "tls_version tlsv1.3",
            "require_certificate true",
            "use_identity_as_username true",
            "use_username_as_clientid true",
            "allow_anonymous false",
            "crlfile /srv/broker/revoked.crl",
            "acl_file /srv/broker/acl",
            "retain_available false",
            "max_packet_size 16384",
        ):
            assert line in lines

    def test_there_is_one_listener_and_comments_stand_alone(self) -> None:
        lines = mosquitto_conf(settings()).splitlines()

        assert len([line for line in lines if line.startswith("listener")]) == 1
        assert not [line for line in lines if "#" in line and not line.startswith("#")]

    def test_no_session_has_an_end(self) -> None:
        lines = mosquitto_conf(settings()).splitlines()

        assert not [line for line in lines if line.startswith("persistent_client_expiration")]

    def test_an_address_to_listen_on_stands_behind_the_port(self) -> None:
        assert "listener 1 127.0.0.1\n" in mosquitto_conf(replace(settings(), port=1, host="127.0.0.1"))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("folder", Path("broker")),
            ("folder", Path("/srv/x\nallow_anonymous true")),
            ("user", ""),
            ("user", "a b"),
            ("host", "::\nlistener 1883"),
            ("log_dest", "stderr\nallow_anonymous true"),
        ],
    )
    def test_what_would_be_another_line_is_refused(self, key: str, value: object) -> None:
        with pytest.raises(ValueError, match=key):
            BrokerSettings(**{"folder": Path("/srv"), "user": "x", key: value})  # type: ignore[arg-type]
