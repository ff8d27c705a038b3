"""Planning: all randomness is here, and its outcome is rows of numbers.

Read in this order: `make_plan` (the stage), `planner`, `materials` (what may be drawn from), `draws` (what is drawn).
"""
