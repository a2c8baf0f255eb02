"""Read images of Docker, Podman, nerdctl and containerd: by command, save stream, disk or content store."""
