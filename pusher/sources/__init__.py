"""Where an image comes from: archives, layouts, Docker and Podman."""
