"""What every objective says of the data it learns from."""

from vitrail.settings import Section


class Objective(Section):
    """A section that says what is minimised; what it needs of its data is as here unless it says otherwise."""

    @property
    def many(self) -> bool:
        """Whether a picture may show several classes at once."""
        return False

    @property
    def reads(self) -> bool:
        """Whether pictures must come with texts that are compared with them."""
        return False
