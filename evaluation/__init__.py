"""How robust a model is: measures, and never trains the student.

Read in this order it is the method: `config` (what is asked), `embed` (features), `invariance`, `leakage` and `probes` (the
three measures), `efficiency` (what a model costs), `cells` (one model measured, and kept), `report` (the tables).
"""
