# RECO in one image:    docker build -t reco:cpu .
# with faiss-gpu:       docker build -t reco:gpu --build-arg EXTRA=gpu .
# BuildKit and the classic builder both build it, for any platform that the locks have wheels for.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# What RECO runs on, pinned with hashes: a layer that nothing but a changed lock makes anew.
FROM ${PYTHON_IMAGE} AS dependencies
ARG EXTRA=cpu
# An index of CPU builds of torch, such as https://download.pytorch.org/whl/cpu: same versions, without CUDA's libraries.
# Its wheels are other files than those that the lock hashes, so these two are taken on the index's word.
ARG TORCH_INDEX=
# torch brings CUDA libraries of several hundred MB each, so a read may stall longer than uv's 30 s.
ENV UV_HTTP_TIMEOUT=300 \
    UV_NO_CACHE=1 \
    UV_COMPILE_BYTECODE=1
COPY requirements/uv.lock requirements/${EXTRA}-runtime.lock requirements/without_cuda.awk /requirements/
RUN python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --quiet --no-cache-dir --require-hashes --requirement /requirements/uv.lock \
 && python3 -m venv --without-pip /opt/reco \
 && lock=/requirements/${EXTRA}-runtime.lock \
 && if [ -n "$TORCH_INDEX" ]; then awk -f /requirements/without_cuda.awk "$lock" > /requirements/image.lock; \
    else cp "$lock" /requirements/image.lock; fi \
 && /opt/uv/bin/uv pip sync --python /opt/reco/bin/python --require-hashes --no-build /requirements/image.lock \
 && if [ -n "$TORCH_INDEX" ]; then /opt/uv/bin/uv pip install --python /opt/reco/bin/python --no-deps --no-build \
      --index-url "$TORCH_INDEX" $(grep -oE '^(torch|torchvision)==[0-9.]+' "$lock"); fi \
 && rm -f /opt/reco/.lock

# RECO itself, in a folder of its own: a change of the source makes anew a layer of a few MB. Whoever runs it may read
# it, whatever umask the source was checked out with.
FROM dependencies AS application
COPY . /source
RUN /opt/uv/bin/uv pip install --python /opt/reco/bin/python --no-deps --no-build-isolation --target /app /source /source/client \
 && rm -f /app/.lock \
 && cp -r /source/deploy /app/deploy \
 && chmod -R a+rX /app

FROM ${PYTHON_IMAGE}
# A number as owner, for orchestrators that refuse root by looking at the image. /data is all that RECO writes to.
RUN groupadd --gid 10001 reco \
 && useradd --uid 10001 --gid reco --no-create-home --home-dir /data --shell /usr/sbin/nologin reco \
 && install --directory --owner reco --group reco --mode 0750 /data
COPY --from=dependencies /opt/reco /opt/reco
COPY --from=application /app /app
ENV PATH=/app/bin:/opt/reco/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/data/cache \
    HF_HOME=/data/hub \
    HF_HUB_DISABLE_TELEMETRY=1 \
    RECO_HOST=0.0.0.0
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8000
# Healthy means "answers requests": starting, broken and draining are not. Docker restarts nothing because of it.
HEALTHCHECK --interval=10s --timeout=6s --start-period=10m --retries=3 \
    CMD ["python", "/app/deploy/healthcheck.py"]
ENTRYPOINT ["python", "/app/deploy/entrypoint.py"]
CMD ["serve"]
