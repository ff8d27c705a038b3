"""The draws of one utterance: `row` (its copies), `copy` (the steps of one), `noise`, `room`, `channel`, `codec`."""
