"""Orders for kinds of patients, as files, each with its clinical reason and source.

A profile is chosen by the level above it, in most cases the patient's (`profile = "copd"`): whoever signs that level
signs what the profile loosens. Limits without a source are a judgement of this project, to be looked at by the site.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vitals.orders.level import OrderLevel
from vitals.orders.order_file import parse_toml

# RCP 2017: NEWS2 as it is, for adults in hospital.
_GENERAL_WARD: Final = """
[order]
level = "profile"
name = "general_ward"
why = "adults in hospital: NEWS2 as it is (RCP 2017)"
"""

# O'Driscoll et al., BTS guideline for oxygen use, Thorax 2017;72(Suppl 1): 88 to 92 % where hypercapnic failure is a
# risk. Below the target is medium; 83 % is where scale 2 of NEWS2 has three points. With the margin of the default an
# alarm could not end at 88 %, which is in the target. Above the target on oxygen is a harm of its own. Scale 2 itself
# is prescribed for one patient (RCP 2017), so no profile can set it.
_COPD: Final = """
[order]
level = "profile"
name = "copd"
why = "risk of hypercapnic failure: SpO2 of 88 to 92 % is the target (BTS 2017)"

[rule.low_spo2]
medium = "87 %"
high = "83 %"
clear_margin = 1.0

[[condition]]
name = "too_much_oxygen"
label = "above the target on oxygen"
priority = "low"
all = ["spo2 >= 93 %", "supplemental_oxygen >= 0.5 L/min"]
margin = { spo2 = 1.0, supplemental_oxygen = 0.0 }
delay = "10 min"
"""

# Khanna et al. (PRODIGY), Anesth Analg 2020;131:1012: nearly half of patients with opioids on wards had episodes of
# respiratory depression. A rate that falls with the saturation is told before either is red. Rady et al., Ann Emerg Med
# 1994;24:685: a shock index above 0.9 finds illness that usual signs miss; with a falling pressure it is bleeding until
# shown otherwise. The numbers of the pair and of the trend are a judgement.
_POSTOPERATIVE: Final = """
[order]
level = "profile"
name = "postoperative"
why = "first days after surgery: breathing under opioids, bleeding (PRODIGY 2020, Rady 1994)"

[[condition]]
name = "opioid_breathing"
label = "slow breathing with low saturation"
priority = "medium"
all = ["respiratory_rate <= 10 /min", "spo2 <= 92 %"]
margin = { respiratory_rate = 2.0, spo2 = 2.0 }
delay = "1 min"

[[condition]]
name = "bleeding"
label = "fast heart and falling pressure"
priority = "medium"
all = ["shock_index >= 0.9", "systolic_bp <= 110 mmHg"]
margin = { shock_index = 0.05, systolic_bp = 5.0 }
delay = "2 min"

[[condition]]
name = "rising_heart_rate"
label = "heart rate rising"
priority = "low"
delay = "5 min"
[condition.trend]
sign = "heart_rate"
rise_percent = 20.0
over = "1 h"
"""

# At home a patch comes off to wash, and nobody can be at the bed in a minute: data may be missing as long as those of a
# patient who scores 0. Boehmer et al. (MultiSENSE), JACC Heart Fail 2017;5:216: breathing and heart rate rise in the
# days before decompensation. 120 and 45 are where rate control is looked at (judgement).
_HEART_FAILURE_HOME: Final = """
[order]
level = "profile"
name = "heart_failure_home"
why = "heart failure at home: decompensation begins with breathing and heart rate (MultiSENSE 2017)"

[watch]
stale_after = "30 min"
lost_after = "1 h"

[quiet]
from = "22:00"
to = "07:00"

[rule.high_heart_rate]
medium = "120 /min"
delay = "1 min"

[rule.low_heart_rate]
medium = "45 /min"
delay = "1 min"

[[condition]]
name = "congestion"
label = "fast heart and breathing"
priority = "medium"
all = ["heart_rate >= 100 /min", "respiratory_rate >= 22 /min"]
margin = { heart_rate = 5.0, respiratory_rate = 2.0 }
delay = "15 min"

[[condition]]
name = "rising_breathing"
label = "breathing rate rising"
priority = "low"
delay = "30 min"
[condition.trend]
sign = "respiratory_rate"
rise_percent = 25.0
over = "4 h"
"""

# NICE NG31: in the last days of life no investigation that is unlikely to change the care. Nobody acts on a number, so
# nobody is called by one. That includes technical alarms: a call at night to put a sensor back disturbs the patient and
# the family, and changes nothing. Everything stays on the list, for whoever comes to the bed.
_HOSPICE: Final = """
[order]
level = "profile"
name = "hospice"
why = "comfort comes first: observe, do not call (NICE NG31)"

[call]
high = "observe"
medium = "observe"
low = "observe"
technical = "observe"
"""

# Sharma et al., international criteria for the ECG of athletes, Eur Heart J 2018;39:1466: a sinus rate of 30 and more
# is normal in the trained. During exercise a fast heart is explained, for a time. NEWS2 is left as it is: 40 and less
# are red for it.
_ATHLETE: Final = """
[order]
level = "profile"
name = "athlete"
why = "endurance athlete in training: slow at rest, fast in exercise (Sharma 2018)"

[activity]
explains = "exercise"
learns = true

[rule.low_heart_rate]
high = "29 /min"
"""


def _read(*texts: str) -> Mapping[str, OrderLevel]:
    levels = [parse_toml(text, file="profiles") for text in texts]
    return MappingProxyType({level.name: level for level in levels})


PROFILES: Final[Mapping[str, OrderLevel]] = _read(
    _GENERAL_WARD, _COPD, _POSTOPERATIVE, _HEART_FAILURE_HOME, _HOSPICE, _ATHLETE
)
"""By name. Sites may have others: a level `profile` of the same name comes first."""
