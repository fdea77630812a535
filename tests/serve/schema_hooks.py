"""What schemathesis sends where the OpenAPI document asks for an image: no schema can describe one."""

from base64 import b64encode

import numpy as np
import schemathesis
from hypothesis import strategies
from schemathesis.transport.serialization import Binary
from tests.serve.fakes import encode_clip, encoded

IMAGES = strategies.sampled_from([encoded(1), encoded(2)])

for kind in ("image/jpeg", "image/png", "application/octet-stream"):
    schemathesis.openapi.media_type(kind, IMAGES)
CLIP = encode_clip([np.zeros((32, 32, 3), np.uint8)] * 5)
schemathesis.openapi.media_type("video/mp4", strategies.just(CLIP))
schemathesis.openapi.format("binary", IMAGES.map(Binary))
schemathesis.openapi.format("base64-image", IMAGES.map(lambda content: b64encode(content).decode()))
