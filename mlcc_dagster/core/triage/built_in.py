"""The mitigations and environments that come with triage.

Belongs here: for the engines and libraries that this platform runs, the variables that most often tell apart what makes a
failure, each with a line on what it does. Not here: what an investigation adds (sidecars, entry points), how names resolve.
The names of the variables are those of their projects: vLLM, llama.cpp, ONNX Runtime, CUDA, NCCL, OpenMP.
"""

from types import MappingProxyType

from mlcc_dagster.core.triage.recipe import NO_MITIGATION
from mlcc_dagster.core.triage.registries import BUILT_IN, Environment, Mitigation

_TABLE: tuple[tuple[str, dict[str, str], str], ...] = (
    (NO_MITIGATION, {}, "changes nothing: what all others are compared with"),
    # vLLM
    (
        "vllm_in_process",
        {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
        "vLLM: engine in the caller's process, scheduled in order",
    ),
    ("vllm_spawn_workers", {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}, "vLLM: workers started afresh instead of forked"),
    ("vllm_batch_invariant", {"VLLM_BATCH_INVARIANT": "1"}, "vLLM: kernels whose results do not depend on the batch"),
    ("vllm_flash_attention", {"VLLM_ATTENTION_BACKEND": "FLASH_ATTN"}, "vLLM: attention by FlashAttention"),
    ("vllm_triton_attention", {"VLLM_ATTENTION_BACKEND": "TRITON_ATTN"}, "vLLM: attention by Triton kernels"),
    (
        "vllm_no_flashinfer_sampler",
        {"VLLM_USE_FLASHINFER_SAMPLER": "0"},
        "vLLM: sampling by PyTorch, not by FlashInfer",
    ),
    ("vllm_no_compile_cache", {"VLLM_DISABLE_COMPILE_CACHE": "1"}, "vLLM: compile anew, nothing from the cache"),
    ("vllm_debug_log", {"VLLM_LOGGING_LEVEL": "DEBUG"}, "vLLM: verbose log, which also slows it down"),
    # llama.cpp; the first three also set the server of workload llamacpp-answers
    ("llamacpp_one_thread", {"LLAMA_ARG_THREADS": "1"}, "llama.cpp: one thread computes"),
    ("llamacpp_two_threads", {"LLAMA_ARG_THREADS": "2"}, "llama.cpp: two threads compute"),
    (
        "llamacpp_one_slot",
        {"LLAMA_ARG_N_PARALLEL": "1"},
        "llama.cpp: one request at a time, nothing is batched with another",
    ),
    ("llamacpp_four_slots", {"LLAMA_ARG_N_PARALLEL": "4"}, "llama.cpp: up to four requests in one batch"),
    ("llamacpp_kv_q8_0", {"LLAMA_ARG_CACHE_TYPE_K": "q8_0"}, "llama.cpp: key-value cache in 8 bits"),
    ("llamacpp_no_mmap", {"LLAMA_ARG_NO_MMAP": "1"}, "llama.cpp: weights read into memory, not mapped"),
    (
        "llamacpp_no_cuda_graphs",
        {"GGML_CUDA_DISABLE_GRAPHS": "1"},
        "llama.cpp: kernels launched one by one, no CUDA graphs",
    ),
    # ONNX Runtime
    (
        "ort_no_flash_attention",
        {"ORT_DISABLE_FLASH_ATTENTION": "1"},
        "ONNX Runtime: no FlashAttention in attention operators",
    ),
    (
        "ort_no_efficient_attention",
        {"ORT_DISABLE_MEMORY_EFFICIENT_ATTENTION": "1"},
        "ONNX Runtime: no memory-efficient attention",
    ),
    ("ort_no_fused_attention", {"ORT_DISABLE_FUSED_ATTENTION": "1"}, "ONNX Runtime: no fused attention kernels"),
    ("ort_tensorrt_full_precision", {"ORT_TENSORRT_FP16_ENABLE": "0"}, "ONNX Runtime: TensorRT engines without FP16"),
    (
        "ort_tensorrt_no_cache",
        {"ORT_TENSORRT_ENGINE_CACHE_ENABLE": "0"},
        "ONNX Runtime: TensorRT engines built anew, none from the cache",
    ),
    # CUDA
    (
        "cuda_launch_blocking",
        {"CUDA_LAUNCH_BLOCKING": "1"},
        "CUDA: each launch waits for its kernel; slows everything down",
    ),
    ("cuda_one_connection", {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}, "CUDA: one hardware queue, streams in launch order"),
    ("cuda_eager_loading", {"CUDA_MODULE_LOADING": "EAGER"}, "CUDA: all kernels loaded at the start"),
    (
        "cublas_fixed_workspace",
        {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
        "cuBLAS: fixed workspaces, the same result each time",
    ),
    ("tf32_off", {"NVIDIA_TF32_OVERRIDE": "0"}, "CUDA libraries: no TF32, matrix products in full FP32"),
    ("torch_no_cuda_cache", {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, "PyTorch: memory straight from CUDA; slows down"),
    (
        "torch_expandable_segments",
        {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"},
        "PyTorch: memory segments that grow, against fragmentation",
    ),
    # NCCL
    ("nccl_no_p2p", {"NCCL_P2P_DISABLE": "1"}, "NCCL: no direct transfers between GPUs"),
    ("nccl_no_shm", {"NCCL_SHM_DISABLE": "1"}, "NCCL: no shared memory between processes of a host"),
    ("nccl_no_ib", {"NCCL_IB_DISABLE": "1"}, "NCCL: sockets instead of InfiniBand or RoCE"),
    ("nccl_no_nvls", {"NCCL_NVLS_ENABLE": "0"}, "NCCL: no NVLink SHARP"),
    ("nccl_no_cumem", {"NCCL_CUMEM_ENABLE": "0"}, "NCCL: buffers by cudaMalloc, not by cuMem"),
    ("nccl_proto_simple", {"NCCL_PROTO": "Simple"}, "NCCL: protocol Simple, whole chunks with flags"),
    ("nccl_proto_ll", {"NCCL_PROTO": "LL"}, "NCCL: protocol LL, small words with flags"),
    ("nccl_algo_ring", {"NCCL_ALGO": "Ring"}, "NCCL: ring algorithm"),
    ("nccl_algo_tree", {"NCCL_ALGO": "Tree"}, "NCCL: tree algorithm"),
    (
        "nccl_launch_in_order",
        {"NCCL_LAUNCH_ORDER_IMPLICIT": "1"},
        "NCCL: collectives of a device launched in host order",
    ),
    ("nccl_debug_info", {"NCCL_DEBUG": "INFO"}, "NCCL: says what it chose; hardly slower"),
    # numerical threads
    ("omp_one_thread", {"OMP_NUM_THREADS": "1"}, "OpenMP: one thread"),
    ("blas_one_thread", {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}, "BLAS: one thread"),
    # the example that comes along
    ("example_lock", {"MLCC_EXAMPLE_LOCK": "1"}, "workload lost-update: both threads take a lock, which cures it"),
    (
        "example_lock_first",
        {"MLCC_EXAMPLE_LOCK_FIRST": "1"},
        "workload lost-update: the first thread alone takes a lock, which cures nothing",
    ),
    (
        "example_lock_second",
        {"MLCC_EXAMPLE_LOCK_SECOND": "1"},
        "workload lost-update: the second thread alone takes it; with the first they are the cure",
    ),
    ("example_sleep", {"MLCC_EXAMPLE_SLEEP_MS": "14"}, "workload lost-update: every step sleeps, which hides the race"),
)

MITIGATIONS: tuple[Mitigation, ...] = tuple(
    Mitigation(name, BUILT_IN, MappingProxyType(variables), summary) for name, variables, summary in _TABLE
)

ENVIRONMENTS: tuple[Environment, ...] = (
    Environment("local", BUILT_IN, summary="this host and this Python, as they are"),
    Environment("default", BUILT_IN, summary="the same as local, for recipes that name no place"),
)
