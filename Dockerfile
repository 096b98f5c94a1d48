# Image of the driver and of the pool's workers. The install steps are those of `make install`.
#   docker build --build-arg REVISION=$(git rev-parse HEAD) -t duchenne .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/duchenne
COPY requirements.lock ./
RUN /opt/duchenne/bin/pip install --quiet --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY platform ./platform
COPY jobs ./jobs
COPY kernels ./kernels
RUN /opt/duchenne/bin/pip install --quiet --no-deps --no-build-isolation .

FROM ${PYTHON_IMAGE}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="duchenne" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin duchenne
COPY --from=build /opt/duchenne /opt/duchenne
ENV PATH=/opt/duchenne/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DUCHENNE_HOME=/home/duchenne/.duchenne
USER 10001
WORKDIR /home/duchenne
HEALTHCHECK --interval=60s --timeout=10s CMD ["duchenne", "--version"]
ENTRYPOINT ["duchenne"]
