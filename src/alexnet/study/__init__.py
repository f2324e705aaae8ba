"""A wing of the template: questions, the runs that answer them, and what they say together."""
