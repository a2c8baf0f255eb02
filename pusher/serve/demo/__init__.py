"""``pusher demo``: a push over a bad link, with everything that it takes on this machine."""
