"""Somebody else's results, checked: are they complete, and does all that was derived follow from the raw runs?"""
