"""The command line: talks to people; everything it does is in the layers below."""
