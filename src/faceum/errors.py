"""Layer 0. The package's errors: one sentence each that says what came, what was wanted and what to do."""


class FaceumError(ValueError):
    """What a user gave cannot be used; the message is one sentence fit to be shown as it is."""


class PictureError(FaceumError):
    """A picture cannot be read, or is not a picture in the wanted form."""


class ModelError(FaceumError):
    """A model name, file or request does not fit: unknown name, wrong hash, wrong task, wrong crop size."""


class DataError(FaceumError):
    """A data set's folder, file or label is missing, broken or out of range."""


class RecipeError(FaceumError):
    """A recipe or one of its keys cannot be used."""
