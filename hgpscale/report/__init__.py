"""What people look at: figures, and tables for the terminal."""
