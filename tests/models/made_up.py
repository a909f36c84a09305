"""Synthetic recordings and modified models for tests, in the formats of the real ones."""

import csv
import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.artifacts import RELEASED, Artifact, load
from models.heart_features import ATTRIBUTES
from models.passport import FILE, Passport, encode, signed
from models.recordings import SEPSIS_SIGNS

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw().hex()


def released(name: str) -> Artifact:
    return load(RELEASED / name)


def copied(name: str, folder: Path) -> Path:
    """A copy of a released model that a test may damage."""
    home = folder / name
    home.mkdir(parents=True)
    for file in ("model.onnx", "weights.npz", FILE):
        if (RELEASED / name / file).is_file():
            (home / file).write_bytes((RELEASED / name / file).read_bytes())
    return home


def resigned(home: Path, key: Ed25519PrivateKey = KEY, **changed: object) -> None:
    """Replace the passport by one with other fields, signed with another key."""
    passport = msgspec.json.decode((home / FILE).read_bytes(), type=Passport)
    files = {name: hashlib.sha256((home / name).read_bytes()).hexdigest() for name in passport.files}
    wanted = msgspec.structs.replace(passport, **{"files": files, **changed})
    (home / FILE).write_bytes(encode(signed(wanted, key)))


def hourly(path: Path, *, patients: int = 12, seed: int = 0) -> Path:
    """Stays like those of PhysioNet/CinC 2019; every third patient becomes septic with abnormal signs."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[float | str]] = {
        name: [] for name in ("patient_id", "hour", *SEPSIS_SIGNS.values(), "Age", "Gender", "SepsisLabel")
    }
    for patient in range(patients):
        hours = int(rng.integers(14, 40))
        for hour in range(1, hours + 1):
            ill = patient % 3 == 0 and hour > hours - 12
            usual = (82, 97, 36.9, 17, 125, 70)
            worse = (112, 93, 38.6, 26, 98, 52)
            for name, one, two in zip(SEPSIS_SIGNS.values(), usual, worse, strict=True):
                value = (two if ill else one) * (1 + rng.normal(0, 0.02))
                rows[name].append(float(value) if rng.random() < 0.85 else float("nan"))
            rows["patient_id"].append(f"p{patient:03d}")
            rows["hour"].append(float(hour))
            rows["Age"].append(50.0 + patient)
            rows["Gender"].append(float(patient % 2))
            rows["SepsisLabel"].append(float(patient % 3 == 0 and hour > hours - 8))
    pq.write_table(pa.table(rows), path)
    return path


def icu(folder: Path, *, stays: int = 24, seed: int = 0) -> Path:
    """Stays like those of PhysioNet/CinC 2012; every fourth patient dies, with abnormal signs."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    died = [int(at % 4 == 0) for at in range(stays)]
    people = {
        "record_id": [1_000 + at for at in range(stays)],
        "died_in_hospital": died,
        "Age": [float(40 + at) if at % 5 else -1.0 for at in range(stays)],
        "Gender": [float(at % 2) if at % 7 else -1.0 for at in range(stays)],
    }
    pq.write_table(pa.table(people), folder / "patients_dev.parquet")
    usual = {"HR": 84, "SaO2": 97, "Temp": 36.9, "RespRate": 18, "NISysABP": 121, "NIDiasABP": 68, "Glucose": 130}
    rows: dict[str, list[float | str | int]] = {name: [] for name in ("record_id", "minute", "parameter", "value")}
    for record, ill in zip(people["record_id"], died, strict=True):
        for minute in range(7, 2_880, 50):
            for name, value in usual.items():
                if rng.random() < 0.8:
                    rows["record_id"].append(record)
                    rows["minute"].append(minute)
                    rows["parameter"].append(name)
                    rows["value"].append(float(value * (1 + 0.25 * ill + rng.normal(0, 0.03))))
    pq.write_table(pa.table(rows), folder / "series_dev.parquet")
    return folder


def clinic(path: Path, *, patients: int = 60, seed: int = 0) -> Path:
    """Patients like those of the UCI heart disease data set."""
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row_id", "site", *(one.name for one in ATTRIBUTES), "num", "target"])
        for at in range(patients):
            ill = at % 2
            cells = [
                rng.integers(35, 55) + 12 * ill,
                rng.integers(0, 2),
                4 if ill else rng.integers(1, 4),
                rng.integers(110, 150),
                rng.integers(180, 300),
                0,
                rng.integers(0, 3),
                165 - 25 * ill,
                ill,
                round(2.0 * ill, 1),
                1 + ill,
                ill,
                7 if ill else 3,
            ]
            shown = ["" if rng.random() < 0.15 else str(cell) for cell in cells]
            writer.writerow([f"row-{at}", ("here", "there")[at % 4 // 2], *shown, ill, ill])
    return path


def heartbeat_mv(*, irregular: bool, seconds: float = 20.0, rate_hz: int = 300, seed: int = 0) -> np.ndarray:
    """A synthetic ECG in mV with QRS and T waves; regular with P waves, or irregular without."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    wave, at = rng.normal(0, 0.01, len(time_s)), 0.4
    while at < seconds:
        wave += 1.0 * np.exp(-(((time_s - at) / 0.012) ** 2)) + 0.25 * np.exp(-(((time_s - at - 0.28) / 0.05) ** 2))
        if not irregular:
            wave += 0.12 * np.exp(-(((time_s - at + 0.16) / 0.03) ** 2))
        at += float(rng.uniform(0.4, 1.2)) if irregular else 0.85
    return wave


def ecgs(path: Path, *, records: int = 24) -> Path:
    """Recordings like those of PhysioNet/CinC 2017."""
    signals = [
        np.round(heartbeat_mv(irregular=at % 2 == 1, seconds=10 + at % 5, seed=at) / 0.005).astype(np.int16).tolist()
        for at in range(records)
    ]
    labels = ["NAO~"[at % 4] for at in range(records)]
    names = [f"R{at:03d}" for at in range(records)]
    table = {"record": names, "fs": [300] * records, "uv_per_step": [5] * records, "label": labels}
    pq.write_table(pa.table({**table, "signal": pa.array(signals, pa.list_(pa.int16()))}), path)
    return path
