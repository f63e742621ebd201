# Serves a published model. The model is not part of the image: mount its folder.
#
#   docker build -t tiny-llm --build-arg PIP_EXTRA_INDEX_URL=<the CPU index of PyTorch's install page> .
#   docker run --rm -p 127.0.0.1:8000:8000 -v ~/my-model:/model:ro tiny-llm
#
# Without that argument pip takes the default build of torch, which on Linux brings several GB of CUDA.
FROM python:3.12-slim

ARG PIP_EXTRA_INDEX_URL=""
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

COPY constraints.txt ./
# Only what serving imports: no datasets, no matplotlib, no test tools; and of torch neither its own
# tests nor its C++ headers. Measured without the base image: 690 MB.
RUN pip install --no-cache-dir --no-compile --constraint constraints.txt \
    torch numpy einops flask waitress safetensors 'jsonargparse[signatures]' rich psutil regex \
    hatchling editables \
    && cd "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch" \
    && rm -rf test include

COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY 07_web 07_web
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
    && useradd --no-create-home chat
USER chat

EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
CMD ["python", "07_web/serve.py", "--checkpoint", "/model", "--host", "0.0.0.0", "--device", "cpu"]
