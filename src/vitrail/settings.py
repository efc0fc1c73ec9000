"""What a part of a recipe, or of any other settings file, is made of."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Some named settings: no others are taken, none can be changed afterwards, and a text is never read as a
    number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
