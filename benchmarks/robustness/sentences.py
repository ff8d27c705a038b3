"""Sentences that no training voice says: for frame phones of dev and test voices; written for this study."""

from __future__ import annotations

DEV: tuple[str, ...] = (
    "The ferry leaves when the tide is high.",
    "A red lamp hung above the kitchen table.",
    "They planted seven apple trees behind the barn.",
    "Both windows face the quiet side of the square.",
    "Thunder rolled over the hills before supper.",
    "My sister keeps her money in a tin box.",
    "The teacher drew a circle on the board.",
    "Cold water dripped from the edge of the rock.",
)

TEST: tuple[str, ...] = (
    "The captain put his pipe down and smiled.",
    "Snow had covered every fence by the morning.",
    "You should visit the market on a Thursday.",
    "A brown dog slept beside the open fire.",
    "The cook forgot to put pepper in the stew.",
    "We heard voices from the other end of the tunnel.",
    "She bought a pair of shoes and a yellow hat.",
    "The farmer sold his cart and both of his mules.",
    "Nothing moved in the valley but the grass.",
    "Ask the boy whether he has fed the ducks.",
    "The letter came without a stamp or a name.",
    "A narrow path led us down to the shore.",
)
