"""Drawn faces: datasets for everyone, without a licence and without a recorded person.

Belongs here: people who do not exist, what their faces do, how they are painted, and the raw formats of the datasets
that are imitated. Does not belong here: reading those formats (`ingesters/`). OpenCV and PyAV are imported when a face
is drawn, not before.
"""
