"""Where a sweep runs. `local` is embedded Ray on this machine."""
