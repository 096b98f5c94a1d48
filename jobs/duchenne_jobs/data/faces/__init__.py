"""From frames of people to aligned face crops: decoding, detectors, landmarks, alignment, parsing maps.

Belongs here: what is done to one frame. Does not belong here: which frames a dataset has and what they are labelled
with (`ingesters/`). OpenCV, PyAV and onnxruntime are imported on first use.
"""
