"""The positive control: nothing is measured, and a known share of the workload's own CPU time is wasted beside it.

At ``icount`` the share is twice the margin of the tier's verdict; where time is noisy, it is slightly above the margin.
"""

from testbed.measurers import Measurer
from testbed.record import Tier

MEASURER = Measurer(
    name="control",
    summary="no measurement, but a known share of CPU time wasted (positive control)",
    burn={Tier.ICOUNT: 0.01, Tier.KVM: 0.03, Tier.TCG: 0.03},
)
