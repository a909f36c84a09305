"""The HTTP API of the alarm desk: log in, list alarms, acknowledge, silence, enter what was observed at the bed.

Requests have a fixed schema and a size limit. What a person enters is on disk before the reply confirms it.
"""

import ssl
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.clock import Clock
from runtime.logs import get
from runtime.metrics import address
from stream.config import DeskApiConfig, DeskTls
from stream.desk import texts
from stream.desk.decisions import told_until_ms
from stream.desk.desk import AlarmDesk, Standing
from stream.desk.observation_api import (
    EnterObservation,
    ObservationDone,
    ShownObservations,
    check_name,
    done_of,
)
from stream.desk.observation_api import shown_of as shown_observation
from stream.desk.observing import EntryRate
from stream.desk.users import MOST_CHARACTERS, MOST_NAME_CHARACTERS, DeskSession, Door
from stream.errors import (
    AlarmChangedMeanwhile,
    BadRequest,
    CommitFailed,
    DeskRequestRefused,
    DeskUnusable,
    NoSuchAlarm,
)
from stream.http import JSON, HttpServer, client_address, read_body
from stream.tls import CertifiedContext, FollowingContext

MAX_BODY_BYTES: Final = 4_096
_MOST_NOTIFICATIONS: Final = 50

_log = get(__name__)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_NAME_CHARACTERS)]
Revision = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31)]


class LogIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/login`."""

    user: Name
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_CHARACTERS)]


class LoggedIn(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    user: str
    until_ms: int


class AcknowledgeAlarm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/alarms/{id}/acknowledge`."""

    revision: Revision  # of the alarm as it was seen


class SilenceAlarm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/alarms/{id}/silence`: silences this condition of this patient."""

    revision: Revision
    minutes: Annotated[int, msgspec.Meta(ge=1, le=1_440)]


class ShownNotification(msgspec.Struct, frozen=True, kw_only=True):
    """One notification of one person by one channel."""

    at_ms: int
    who: str  # the role
    person: str
    channel: str
    fate: str  # waiting: result unknown; sent: the service accepted it; failed: tried again; stopped: not needed


class ShownAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """One alarm of the list."""

    id: str
    revision: int
    priority: str
    mark: str
    kind: str
    rule: str
    key: str
    state: str  # active; was: ended, not acknowledged
    bed: str
    patient: str
    stay: str
    device: str  # name of the device that it is about; empty: it is about the patient
    place: str
    since_ms: int
    text: str
    response: str  # recommended clinical response; empty if there is none
    basis: str
    acknowledged_by: str | None
    acknowledged_ms: int | None
    confirmed: bool  # the patient's record shows the answer
    silenced_until_ms: int | None
    calling: bool
    outage: str  # id of the outage that calls instead; empty if there is none
    ordered: str  # how the orders of the patient change who is called; empty if they do not
    told: list[ShownNotification]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/alarms`."""

    now_ms: int
    notice: str
    site: str
    user: str
    trouble: str  # why this list may be old or incomplete; empty if it is not
    alarms: list[ShownAlarm]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """Result of an acknowledgement or a silence."""

    id: str
    by: str
    at_ms: int
    until_ms: int | None = None


def build_app(
    desk: AlarmDesk,
    door: Door,
    clock: Clock,
    *,
    site: str,
    longest_silence_minutes: int,
    trouble: Callable[[], str],
    entries_per_minute: int = DeskApiConfig().entries_per_minute,
) -> Starlette:
    """The application."""

    async def log_in(request: Request) -> LoggedIn:
        asked = await read_body(request, LogIn, most_bytes=MAX_BODY_BYTES)
        token, session = await door.log_in(asked.user, asked.password, client_address(request))
        _log.info("user logged in", user=session.user)
        return LoggedIn(token=token, user=session.user, until_ms=session.until_ms)

    async def log_out(request: Request) -> Done:
        session = _session(request, door)
        door.log_out(session)
        return Done(id="", by=session.user, at_ms=clock.now_ms())

    async def alarms(request: Request) -> Shown:
        session = _session(request, door)
        shown = [shown_of(one) for one in desk.standing()]
        return Shown(
            now_ms=clock.now_ms(),
            notice=texts.NOT_A_DEVICE,
            site=site,
            user=session.user,
            trouble=trouble(),
            alarms=shown,
        )

    async def acknowledge(request: Request) -> Done:
        session = _session(request, door)
        asked = await read_body(request, AcknowledgeAlarm, most_bytes=MAX_BODY_BYTES)
        alarm_id = _alarm_id(request)
        kept = desk.acknowledge(alarm_id, by=session.user, revision=asked.revision)
        return Done(
            id=alarm_id.hex(),
            by=kept.answered_by or session.user,
            at_ms=clock.now_ms() if kept.answer is None else desk.clock.to_wall(kept.answer.at_ms),
        )

    async def silence(request: Request) -> Done:
        session = _session(request, door)
        asked = await read_body(request, SilenceAlarm, most_bytes=MAX_BODY_BYTES)
        if asked.minutes > longest_silence_minutes:
            raise BadRequest(400, f"the longest silence at this desk is {longest_silence_minutes} minutes")
        alarm_id = _alarm_id(request)
        done = desk.silence(alarm_id, by=session.user, minutes=asked.minutes, revision=asked.revision)
        return Done(id=alarm_id.hex(), by=done.by, at_ms=clock.now_ms(), until_ms=told_until_ms(done))

    app = Starlette(
        routes=[
            Route("/v1/login", _answered(log_in), methods=["POST"]),
            Route("/v1/logout", _answered(log_out), methods=["POST"]),
            Route("/v1/alarms", _answered(alarms), methods=["GET"]),
            Route("/v1/alarms/{alarm}/acknowledge", _answered(acknowledge), methods=["POST"]),
            Route("/v1/alarms/{alarm}/silence", _answered(silence), methods=["POST"]),
            *_observation_routes(desk, door, clock, EntryRate(entries_per_minute, clock.mono_ms)),
        ]
    )
    app.router.redirect_slashes = False
    return app


def _observation_routes(desk: AlarmDesk, door: Door, clock: Clock, rate: EntryRate) -> list[Route]:
    """What people enter of a stay, and the list of it."""

    async def observe(request: Request) -> ObservationDone:
        session = _session(request, door)
        rate.count(session.user)
        asked = await read_body(request, EnterObservation, most_bytes=MAX_BODY_BYTES)
        stay = desk.observing.find(_stay_name(request))
        entered = asked.observation(stay.stay_id, by=session.user, now_ms=clock.now_ms())
        return done_of(stay, desk.observing.enter(stay, entered, is_confirmed=asked.confirmed))

    async def observations(request: Request) -> ShownObservations:
        session = _session(request, door)
        stay = desk.observing.find(_stay_name(request))
        return ShownObservations(
            now_ms=clock.now_ms(),
            notice=texts.NOT_A_DEVICE,
            stay=stay.stay_id,
            bed=stay.bed,
            patient=stay.patient,
            user=session.user,
            observations=[shown_observation(one) for one in desk.observing.of(stay.stay_id)],
        )

    # A bed may have a slash in its name.
    place = "/v1/stays/{stay:path}/observations"
    return [Route(place, _answered(observe), methods=["POST"]), Route(place, _answered(observations), methods=["GET"])]


class DeskServer(HttpServer):
    """The application on a port, for as long as the `async with` block lasts."""

    def __init__(self, app: Starlette, config: DeskApiConfig) -> None:
        host, port = address(config.listen)
        tls = config.tls

        super().__init__(
            app,
            name="the alarm desk",
            host=host,
            port=port,
            tls=None if tls is None else _following(tls),
            most_bytes=MAX_BODY_BYTES * 4,
        )

    @property
    def url(self) -> str:
        return f"http{'s' if self.is_secured else ''}://{self.host}:{self.port}"


def _following(tls: DeskTls) -> FollowingContext:
    def make() -> CertifiedContext:
        made = CertifiedContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.show(tls.certificate, tls.key)
        return made

    try:
        return FollowingContext((tls.certificate, tls.key), make)
    except (OSError, ValueError) as error:  # TLS errors are among them
        raise DeskUnusable(
            f"api.tls: {tls.certificate} and {tls.key} are not a certificate and its key ({error})"
        ) from error


def shown_of(one: Standing) -> ShownAlarm:
    """An alarm of the list in the form of the API."""
    kept, alarm = one.kept, one.kept.alarm
    device = one.place.device(alarm.key)
    until_ms = alarm.silenced_until_ms
    if one.active_silence is not None and alarm.priority <= one.active_silence.priority:
        until_ms = one.active_silence.until_ms + one.offset_ms
    answered_ms = kept.answered_ms
    if answered_ms is not None and alarm.acknowledged_by is None:  # the answer of this desk, by the desk's time
        answered_ms += one.offset_ms
    told = [
        ShownNotification(
            at_ms=(sent.begun_ms or sent.due_ms) + one.offset_ms,
            who=sent.who,
            person=sent.person,
            channel=sent.channel,
            fate=sent.fate.value,
        )
        for sent in sorted(one.told, key=lambda sent: -(sent.begun_ms or 0))[:_MOST_NOTIFICATIONS]
    ]
    return ShownAlarm(
        id=alarm.alarm_id.hex(),
        revision=alarm.revision,
        priority=texts.WORDS[alarm.priority],
        mark=texts.MARKS[alarm.priority],
        kind=alarm.kind.value,
        rule=alarm.rule_id,
        key=alarm.key,
        state="active" if kept.is_active else "was",
        bed=one.place.bed,
        patient=one.place.patient,
        stay=alarm.stay_id,
        device=device,
        place=texts.where(kept, one.place.bed, one.place.patient, device),
        since_ms=alarm.onset_ms,
        text=alarm.text,
        response=alarm.response,
        basis=alarm.basis,
        acknowledged_by=kept.answered_by,
        acknowledged_ms=answered_ms,
        confirmed=kept.is_confirmed,
        silenced_until_ms=until_ms,
        calling=one.calls,
        outage="" if one.outage_id is None else one.outage_id.hex(),
        ordered=one.ordered,
        told=told,
    )


def _answered(handler: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        more: dict[str, str] = {}
        try:
            reply = await handler(request)
        except (DeskRequestRefused, BadRequest) as error:
            status, problem = error.status, str(error)
            if isinstance(error, DeskRequestRefused) and error.retry_s is not None:
                more = {"Retry-After": str(error.retry_s)}
            if status in (401, 429):
                _log.warning("request refused", status=status, address=client_address(request))
        except NoSuchAlarm as error:
            status, problem = 404, str(error)
        except AlarmChangedMeanwhile as error:
            status, problem = 409, str(error)
        except CommitFailed:
            status, problem = (
                503,
                "the desk cannot store this; it is NOT done. Call the person on duty for the desk.",
            )
        else:
            return Response(msgspec.json.encode(reply), media_type=JSON, headers={"Cache-Control": "no-store"})
        body = msgspec.json.encode({"problem": problem})
        return Response(body, status_code=status, media_type=JSON, headers=more)

    return answer


def _session(request: Request, door: Door) -> DeskSession:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not 0 < len(token) <= 200:
        raise DeskRequestRefused(401, "not logged in; log in: vitalloom alarms login NAME")
    return door.session_of(token)


def _stay_name(request: Request) -> str:
    return check_name(str(request.path_params["stay"]))


def _alarm_id(request: Request) -> bytes:
    text = str(request.path_params["alarm"])
    try:
        found = bytes.fromhex(text) if len(text) == 32 else b""
    except ValueError:
        found = b""
    if len(found) != 16:
        raise BadRequest(400, "an alarm id must be 32 hexadecimal digits")
    return found
