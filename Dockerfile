# The service in a container: dse serve, dse worker, dse token.
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY simulator simulator
COPY search_spaces search_spaces
COPY dse dse
COPY studies studies
RUN python -m venv /opt/dse && /opt/dse/bin/pip install --no-cache-dir '.[service,client,postgresql]'

FROM python:3.13-slim
# Everything that is written lies under /data and /tmp, so the root may be read-only. The kernel is compiled for the
# processor at hand at the first start, and kept in /data.
ENV PATH=/opt/dse/bin:$PATH DSE_DATA=/data DSE_CACHE_DIR=/data/cache PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin dse \
    && install --directory --owner dse --group dse --mode 0700 /data
COPY --from=build /opt/dse /opt/dse
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=90s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["dse"]
CMD ["serve", "--host", "0.0.0.0", "--json-logs"]
