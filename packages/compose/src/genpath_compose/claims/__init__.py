"""Claims of genpath-compose: the theorems that it rests on, as checks with controls."""
