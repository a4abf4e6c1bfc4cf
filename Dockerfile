# docker build -t paddleskel .
# docker run --rm -p 8000:8000 -v "$PWD/output/STGCN_PlusPlus_toy:/model:ro" paddleskel
FROM python:3.11-slim

# libgomp is what Paddle's and ONNX Runtime's wheels expect of the system
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY requirements.txt requirements-common.txt requirements-serve.txt ./
RUN pip install --no-cache-dir -r requirements.txt -r requirements-serve.txt

COPY paddleskel ./paddleskel
COPY tools ./tools
COPY configs ./configs
COPY main.py LICENSE ./

RUN useradd --system --no-create-home paddleskel
USER paddleskel
ENV PYTHONUNBUFFERED=1
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=3)"]
ENTRYPOINT ["python", "tools/serve.py", "--model", "/model", "--host", "0.0.0.0", "--port", "8000"]
