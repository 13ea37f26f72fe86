# CPU:   docker build -t vitjax .
# CUDA:  docker build -t vitjax --build-arg JAX="jax[cuda13]" .    (the host needs its driver and NVIDIA's container toolkit)
#
#   docker run --rm -v /data/mine:/data -v "$PWD/runs:/runs" vitjax train dino_small --data.root /data --workdir /runs/mine
#   docker run --rm --gpus all -v ... vitjax predict /runs/mine /data/photos --out /runs/predictions

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY pyproject.toml requirements.txt README.md LICENSE ./
COPY configs configs
COPY vitjax vitjax
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:${PYTHON}-slim
# JAX brings CUDA's libraries as wheels, so that CPU and CUDA have one base.
ARG JAX=jax
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt "${JAX}"
COPY --from=build /dist /dist
RUN pip install --no-cache-dir "$(echo /dist/*.whl)[pretrained]"
# Any user may run it, and what libraries write beside the runs is left behind with the container.
ENV HOME=/tmp NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /runs
ENTRYPOINT ["vitjax"]
CMD ["--help"]
