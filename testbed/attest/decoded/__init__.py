"""An IMA log decoded for people: the report, `testbed log`, the notebooks."""
