# Image of drivers, pool workers and the server: one image, so that every process of a sweep runs the same code.
#   docker build --build-arg VERSION=$(duchenne --version) --build-arg REVISION=$(git rev-parse HEAD) -t duchenne .
#   docker build --build-arg ACCELERATOR=cpu --build-arg VERSION=... -t duchenne-cpu .    # a third of the size, no GPUs
# It runs on a read-only root: docker run --read-only --tmpfs /tmp -v duchenne:/var/lib/duchenne duchenne run S.yaml
ARG ACCELERATOR=cuda
ARG BUILD_IMAGE=python:3.11-bookworm
ARG RUNTIME_IMAGE=python:3.11-slim-bookworm
# There is no git history in here to take it from: kernels/hatch_version.py.
ARG VERSION=0.1.0.dev0

# The larger image brings gcc and g++: for the CPU kernels of the wheel, and Triton's launcher. They stay behind.
FROM ${BUILD_IMAGE} AS lock
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements.lock requirements-runtime.lock ./
# What builds the wheel has an environment of its own; that of the image gets no pip.
RUN python -m venv --without-pip /opt/duchenne \
 && python -m venv /opt/build \
 && grep -E '^(hatchling|packaging|pathspec|pluggy|trove-classifiers)==' requirements.lock > build.lock \
 && /opt/build/bin/pip install --quiet --no-deps -r build.lock

# On PyPI the locked torch is the one for CUDA, and the lock holds the CUDA libraries.
FROM lock AS lock-cuda

# The same versions, as built for CPUs only.
FROM lock AS lock-cpu
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN sed -i -E '/^(nvidia-|cuda-|triton==)/d; s/^(torch|torchvision)==(.*)$/\1==\2+cpu/' requirements-runtime.lock

# The stage is one of the two above: it has no tag.
# hadolint ignore=DL3006
FROM lock-${ACCELERATOR} AS build
WORKDIR /src
RUN /opt/build/bin/pip --python /opt/duchenne/bin/python install --quiet --no-deps -r requirements-runtime.lock
COPY docker ./docker
RUN /opt/duchenne/bin/python docker/triton_launcher.py /opt/duchenne/share/triton \
 && install docker/triton-cc /opt/duchenne/bin/triton-cc
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY platform ./platform
COPY jobs ./jobs
COPY kernels ./kernels
ARG VERSION
RUN DUCHENNE_VERSION=${VERSION} /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/build/bin/pip --python /opt/duchenne/bin/python install --quiet --no-deps /wheels/*.whl

FROM ${RUNTIME_IMAGE}
ARG ACCELERATOR
ARG RUNTIME_IMAGE
ARG REVISION=unknown
ARG VERSION
LABEL org.opencontainers.image.title="duchenne" \
      org.opencontainers.image.description="One sweep YAML to one honest leaderboard entry, within its budget" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${RUNTIME_IMAGE}" \
      dev.duchenne.accelerator="${ACCELERATOR}"
# The base image's own pip goes: nothing is installed into what runs.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin duchenne \
 && install --directory --owner=10001 --group=10001 /var/lib/duchenne \
 && rm -rf /usr/local/lib/python3.11/site-packages/* /usr/local/lib/python3.11/ensurepip /usr/local/bin/pip*
COPY --from=build /opt/duchenne /opt/duchenne
# What is written goes to /tmp and to the home, both volumes. CC: see docker/triton-cc.
ENV PATH=/opt/duchenne/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CC=/opt/duchenne/bin/triton-cc \
    DUCHENNE_HOME=/var/lib/duchenne \
    DUCHENNE_REVISION=${REVISION}
USER 10001
WORKDIR /var/lib/duchenne
VOLUME ["/var/lib/duchenne"]
HEALTHCHECK --interval=60s --timeout=10s --start-period=10s CMD ["duchenne", "--version"]
ENTRYPOINT ["duchenne"]
