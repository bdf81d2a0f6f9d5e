"""Gives every package's property tests the same settings."""

from hypothesis import settings

# No deadline: a busy machine is no defect. The rest stays hypothesis' own choice,
# which in continuous integration is to repeat the same examples every time.
settings.register_profile("jobby", settings.default, deadline=None)
settings.load_profile("jobby")
