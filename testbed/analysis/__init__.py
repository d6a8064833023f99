"""From a campaign's directory to tables, figures and a report: pure functions at the desk, without a machine."""
