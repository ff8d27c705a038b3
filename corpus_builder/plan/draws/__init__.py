"""The draws of one copy: `copy` (the steps one after another), `noise`, `room`, `channel`, `codec`."""
