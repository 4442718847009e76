"""A venue on your desk: the venues' own REST and WebSocket protocols on loopback, from a simulated market or a recording."""
