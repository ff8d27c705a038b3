"""The streaming trainer: shards in, a distilled student out. Part of Stillroom.

Read in this order it is the method: `config` (what is asked), `order` (what comes when), `stream` and `views` (which copies are
heard), `teacher` (read from `folder`, `huggingface` or `fairseq`), `student`, `losses`, `adversary`, `schedules`, `checkpoint`,
`journal`, and `loop`, which is all of it; `export` writes what came of it for others.
"""
