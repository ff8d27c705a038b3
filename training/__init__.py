"""The streaming trainer: shards in, a distilled student out.

Read in this order it is the method: `config` (what is asked), `order` (what comes when), `stream` and `views` (which copies are
heard), `teacher`, `student`, `losses`, `adversary`, `schedules`, `checkpoint`, `journal`, and `loop`, which is all of it.
"""
