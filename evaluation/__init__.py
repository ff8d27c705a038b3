"""How robust a model is: measures, and never trains the student.

Read in this order it is the method:

* what is asked: `config`, `dataset` (which utterances), `labels`, `texts`, `alignments`, `verification` (what they are called);
* what a copy is to a model: `seenness`, `trained`, `roll`;
* features: `embed`, `floor` (log-mel), `heads`, `hearing` (three passes over a corpus);
* without labels: `invariance`, `similarity`, `retrieval`, `agreement`, `leakage`;
* with labels: `probes`, `sums`, `framewise`, `verification`;
* what a model costs: `efficiency`;
* one model measured and kept: `cells`, `evaluate`;
* the tables: `rates`, `outcomes` (groups and intervals), `paper`, `layer_tables`, `report`.
"""
