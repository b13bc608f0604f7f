# One image for every part; compose says which command each container runs.
FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml README.md ./
COPY core core
COPY bots bots
COPY worker worker
COPY migrations migrations
# `parts` are extras of pyproject.toml: the worker's image adds `draw`, which brings torch.
ARG parts=postgres,s3,web,discord,telegram,dashboard
RUN pip install --no-cache-dir ".[${parts}]" && useradd --create-home drawqueue \
    && mkdir /data && chown drawqueue /data
USER drawqueue
# As core/supervisor.py sets them: what is freed goes back to the system.
ENV DRAWQUEUE_HOME=/data MALLOC_ARENA_MAX=2 MALLOC_TRIM_THRESHOLD_=65536
ENTRYPOINT ["drawqueue"]
