"""The report page: HTML that a browser shows without a network, from what the report has already."""
