"""How one program is enclosed, limited, ended and collected. Standard library only."""
