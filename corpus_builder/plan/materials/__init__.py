"""What planning draws from: utterances, noise files and their levels, rooms, the assignment to splits, and named random generators."""
