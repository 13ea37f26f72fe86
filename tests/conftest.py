"""Two virtual CPU devices, quick compilation, and shapes checked against the signatures."""

import os
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Half of the time in the compiler goes into fused loops by way of MLIR; straight to LLVM they are made in a fraction of
# it, here and in commands in processes of their own. A flag that another jaxlib does not know would end the process.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else ""
)

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 2)
# Small shapes spend nearly all their time in the compiler; the parity suite compiles as users do.
jax.config.update("jax_disable_most_optimizations", True)
cache = Path(__file__).resolve().parent.parent / ".jax_cache"
jax.config.update("jax_compilation_cache_dir", str(cache))
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))  # of commands in processes of their own: no user's home
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

ROOMS = ("ops", "attention", "layers", "backbones", "classification", "detection", "segmentation", "data", "evaluation")
install_import_hook([f"vitjax.{room}" for room in ROOMS], "beartype.beartype")
