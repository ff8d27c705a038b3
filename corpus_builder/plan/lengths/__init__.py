"""How long utterances are: counted of files whose header does not say, and of manifests compared with their files."""
