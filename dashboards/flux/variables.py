"""Flux queries of the dashboard variables: tenants, wards, patients."""

from dashboards.flux.parts import HEAD, LOOK_BACK, TENANT, WARDS, in_wards, locations, one_row_per_patient, select
from stream.store.line_protocol import BINDING


def tenants() -> str:
    """Buckets that the token can read and that have a bucket of minutes: one per tenant."""
    return (
        'import "strings"\n\nbuckets()\n  |> filter(fn: (r) => strings.hasSuffix(v: r.name, suffix: "_1m"))\n'
        '  |> map(fn: (r) => ({text: strings.trimSuffix(v: r.name, suffix: "_1m")}))\n  |> sort(columns: ["text"])'
    )


def wards(bucket: str = TENANT) -> str:
    """Wards with a bed assignment within a day."""
    return (
        f"{HEAD}{select(bucket, BINDING, LOOK_BACK, 'bed')}\n  |> last()\n"
        '  |> group()\n  |> distinct(column: "ward")\n  |> map(fn: (r) => ({text: r._value}))\n'
        '  |> sort(columns: ["text"])'
    )


def patients(bucket: str = TENANT, wards: str = WARDS) -> str:
    """Patients in these wards within a day, as `bed, patient | binding`; `formerly bed` after the end of a binding."""
    return (
        f"{HEAD}{locations(bucket)}\n"
        + one_row_per_patient(["locations"], ("ward", "bed", "patient", "valid_to_ms"))
        + in_wards(wards)
        + '  |> map(fn: (r) => ({text: (if r.valid_to_ms == " " then "" else "formerly ")'
        ' + (if r.bed == " " then "?" else r.bed) + ", " + r.patient'
        ' + " | " + r.binding}))\n'
        '  |> sort(columns: ["text"])'
    )
