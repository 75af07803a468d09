"""The lab on disk: paths, ledger, git, schemas, secrets."""
