"""The command line: thin, and quick to start. Commands are loaded when they are called."""
