# Image of drivers, pool workers and the server: one image, so that every process of a sweep runs the same code.
#   docker build --build-arg REVISION=$(git rev-parse HEAD) -t duchenne .                  # NVIDIA GPUs, and CPUs
#   docker build --build-arg ACCELERATOR=cpu --build-arg REVISION=... -t duchenne-cpu .    # a third of the size
# It runs on a read-only root: docker run --read-only --tmpfs /tmp -v duchenne:/var/lib/duchenne duchenne run S.yaml
ARG ACCELERATOR=cuda
ARG BUILD_IMAGE=python:3.11-bookworm
ARG RUNTIME_IMAGE=python:3.11-slim-bookworm

# The larger image brings g++, which compiles the CPU kernels of the wheel; it stays behind.
FROM ${BUILD_IMAGE} AS lock
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/duchenne

# On PyPI the locked torch is the one for CUDA, and the lock holds the CUDA libraries.
FROM lock AS lock-cuda

# The same versions, as built for CPUs only.
FROM lock AS lock-cpu
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN sed -i -E '/^(nvidia-|cuda-|triton==)/d; s/^(torch|torchvision)==(.*)$/\1==\2+cpu/' requirements.lock

# The install steps are those of `make install`. The stage is one of the two above: it has no tag.
# hadolint ignore=DL3006
FROM lock-${ACCELERATOR} AS build
WORKDIR /src
RUN /opt/duchenne/bin/pip install --quiet --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY platform ./platform
COPY jobs ./jobs
COPY kernels ./kernels
RUN /opt/duchenne/bin/pip install --quiet --no-deps --no-build-isolation .

FROM ${RUNTIME_IMAGE}
ARG ACCELERATOR
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="duchenne" \
      org.opencontainers.image.description="One sweep YAML to one honest leaderboard entry, within its budget" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      dev.duchenne.accelerator="${ACCELERATOR}"
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin duchenne \
 && install --directory --owner=10001 --group=10001 /var/lib/duchenne
COPY --from=build /opt/duchenne /opt/duchenne
# What is written goes to /tmp and to the home, both volumes.
ENV PATH=/opt/duchenne/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    DUCHENNE_HOME=/var/lib/duchenne \
    DUCHENNE_REVISION=${REVISION}
USER 10001
WORKDIR /var/lib/duchenne
VOLUME ["/var/lib/duchenne"]
HEALTHCHECK --interval=60s --timeout=10s --start-period=10s CMD ["duchenne", "--version"]
ENTRYPOINT ["duchenne"]
