"""Many trainings of one network that differ in a few settings, and what each costs: the trade laid out.

`spikeloom.study.study` is the verb; a study file says what is tried (`definition`), a trial trains, compiles and
simulates one choice (`trial`), workers on any number of machines take trials from one storage (`worker`), and `results`
makes the table, the CSV file and the pictures.
"""

from .definition import Definition
from .worker import study

__all__ = ["Definition", "study"]
