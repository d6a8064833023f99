"""The parts of a campaign's report: tables in, Markdown and pictures out."""
