# syntax=docker/dockerfile:1
# One image for every process of vitalloom in a data centre, and for the demo: docker-compose.yml says which runs where.
# No shell is needed, nothing is written but where a volume is mounted, and it does not run as root.

FROM python:3.13-slim-trixie AS wheels
WORKDIR /src
COPY pyproject.toml README.md LICENSE vitalloom.py ./
COPY vitals vitals
COPY wire wire
COPY runtime runtime
COPY models models
COPY edge edge
COPY stream stream
COPY simulators simulators
COPY dashboards dashboards
COPY deploy deploy
# Of others only what is published as a wheel: there is no compiler here, and nothing is built from foreign sources. For
# x86-64 that is all of it; faust-streaming has none for aarch64. An edge on a Pi has an image of its own: edge/Dockerfile.
RUN ["python", "-m", "pip", "wheel", "--no-cache-dir", "--only-binary=:all:", "--wheel-dir", "/wheels", ".[site]"]
RUN ["python", "-m", "venv", "/opt/vitalloom"]
RUN ["/opt/vitalloom/bin/python", "-m", "pip", "install", "--no-cache-dir", "--no-index", "--find-links", "/wheels", "vitalloom[site]"]
RUN ["/opt/vitalloom/bin/python", "-m", "pip", "uninstall", "--yes", "pip"]
RUN ["python", "-m", "compileall", "-q", "/opt/vitalloom/lib"]

FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="vitalloom" \
      org.opencontainers.image.description="Decision support and secondary notification. Not a certified medical device." \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=wheels /opt/vitalloom /opt/vitalloom
# HOME is a file system in memory: libraries look there for files of a user who does not exist.
ENV PATH="/opt/vitalloom/bin:$PATH" HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1
USER 10001:10001
ENTRYPOINT ["vitalloom"]
CMD ["--help"]
