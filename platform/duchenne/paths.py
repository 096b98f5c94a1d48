"""Where things are kept unless somebody says otherwise."""

HOME_VARIABLE = "DUCHENNE_HOME"
DEFAULT_HOME = "~/.duchenne"
