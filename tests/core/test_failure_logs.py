"""Logs of the kinds that builds, tests and deployments write are read right."""

import pytest

from mlcc_dagster.core.failures import (
    classify,
)

KINDS = [
    ("pytest with a summary", "code_bug",
     """
     ============================= test session starts ==============================
     tests/test_api.py::test_ping PASSED                                      [ 50%]
     tests/test_api.py::test_generate FAILED                                  [100%]
     =================================== FAILURES ===================================
     ________________________________ test_generate _________________________________
         def test_generate():
     >       assert answer.status_code == 200
     E       assert 500 == 200
     tests/test_api.py:12: AssertionError
     =========================== short test summary info ============================
     >>FAILED tests/test_api.py::test_generate - assert 500 == 200
     ========================= 1 failed, 1 passed in 3.21s ==========================
     """),
    ("pytest whose check raised", "code_bug",
     """
     =================================== FAILURES ===================================
     >>______________________________ TestServe.test_load _____________________________
     Traceback (most recent call last):
       File "/src/serve.py", line 3, in load
         return table[name]
     KeyError: 'model'
     ----------------------------- Captured stderr call -----------------------------
     loading
     """),
    ("pytest that cannot collect", "code_bug",
     """
     ==================================== ERRORS ====================================
     ________________________ ERROR collecting tests/test_api.py ____________________
     E   ModuleNotFoundError: No module named 'serve'
     =========================== short test summary info ============================
     >>ERROR tests/test_api.py
     !!!!!!!!!!!!!!!!!!!! Interrupted: 1 error during collection !!!!!!!!!!!!!!!!!!!!
     =============================== 1 error in 0.12s ===============================
     """),
    ("pytest with a limit per check", "timeout",
     """
     +++++++++++++++++++++++++++++++++++ Timeout +++++++++++++++++++++++++++++++++++
     =========================== short test summary info ============================
     >>FAILED tests/test_api.py::test_slow - Failed: Timeout (>30.0s) from pytest-timeout.
     ============================== 1 failed in 30.12s ==============================
     """),
    ("pytest against a dead network", "infrastructure",
     """
     ________________________________ test_download _________________________________
     E   requests.exceptions.ConnectionError: HTTPSConnectionPool(host='models.example', port=443): Max retries exceeded
     =========================== short test summary info ============================
     >>FAILED tests/test_hub.py::test_download - requests.exceptions.ConnectionError: HTTPSConnectionPool(host='models...
     """),
    ("pytest out of GPU memory", "oom",
     """
     ________________________________ test_generate _________________________________
     >>E   torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 14.58 GiB
     ============================== 1 failed in 30.12s ==============================
     """),
    ("unittest", "code_bug",
     """
     ..F.
     ======================================================================
     >>FAIL: test_ping (test_api.TestApi)
     ----------------------------------------------------------------------
     Traceback (most recent call last):
       File "test_api.py", line 9, in test_ping
         self.assertEqual(1, 2)
     AssertionError: 1 != 2

     Ran 4 tests in 0.004s

     FAILED (failures=1)
     """),
    ("GoogleTest", "code_bug",
     """
     [ RUN      ] Cache.Evicts
     cache_test.cc:42: Failure
     Expected equality of these values:
     [  FAILED  ] Cache.Evicts (3 ms)
     [==========] 12 tests from 3 test suites ran. (51 ms total)
     [  PASSED  ] 11 tests.
     [  FAILED  ] 1 test, listed below:
     >>[  FAILED  ] Cache.Evicts
     """),
    ("CTest with a limit", "timeout",
     """
      1/2 Test #1: cache_test .......................   Passed    0.05 sec
     >> 2/2 Test #2: serve_test .......................***Timeout  60.02 sec
     50% tests passed, 1 tests failed out of 2
     Errors while running CTest
     """),
    ("go test", "code_bug",
     """
     === RUN   TestServe
         serve_test.go:12: got 500, want 200
     >>--- FAIL: TestServe (0.00s)
     FAIL
     FAIL    example.org/serve 0.012s
     """),
    ("go build", "code_bug",
     """
     # example.org/serve
     >>./main.go:12:5: undefined: listen
     """),
    ("go test that hangs", "timeout",
     """
     >>panic: test timed out after 10m0s
     goroutine 17 [running]:
     FAIL    example.org/serve 600.012s
     """),
    ("cargo build", "code_bug",
     """
        Compiling serve v0.1.0 (/src)
     >>error[E0308]: mismatched types
       --> src/main.rs:12:5
     error: could not compile `serve` (bin "serve") due to 1 previous error
     """),
    ("cargo test", "code_bug",
     """
     test cache::evicts ... ok
     >>test cache::holds ... FAILED
     thread 'cache::holds' panicked at src/cache.rs:12:5:
     test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out
     error: test failed, to rerun pass `--lib`
     """),
    ("cargo without a network", "infrastructure",
     """
     >>error: failed to get `serde` as a dependency of package `serve v0.1.0 (/src)`

     Caused by:
       failed to load source for dependency `serde`

     Caused by:
       Unable to update registry `index`

     Caused by:
       [6] Could not resolve host (Could not resolve host: index.example)
     """),
    ("npm", "code_bug",
     """
     npm error code ERESOLVE
     npm error ERESOLVE could not resolve
     >>npm error ERESOLVE unable to resolve dependency tree
     npm error A complete log of this run can be found in: /home/ci/.npm/_logs/x-debug-0.log
     """),
    ("npm without a network", "infrastructure",
     """
     npm error code ENOTFOUND
     >>npm error network request to https://packages.example/react failed, reason: getaddrinfo ENOTFOUND packages.example
     npm error A complete log of this run can be found in: /home/ci/.npm/_logs/x-debug-0.log
     """),
    ("Jest", "code_bug",
     """
     FAIL src/serve.test.js
     >>  ● serve › answers a ping
         expect(received).toBe(expected)
     Test Suites: 1 failed, 1 total
     Tests:       1 failed, 4 passed, 5 total
     """),
    ("TypeScript", "code_bug",
     """
     > tsc --noEmit
     >>src/serve.ts:12:5 - error TS2322: Type 'string' is not assignable to type 'number'.
     Found 1 error in src/serve.ts:12
     """),
    ("Java with causes and frames", "infrastructure",
     """
     Exception in thread "main" java.lang.RuntimeException: cannot start
     \tat org.example.Serve.main(Serve.java:12)
     >>Caused by: java.net.ConnectException: Connection refused
     \tat java.base/sun.nio.ch.Net.pollConnect(Native Method)
     \t... 1 more
     """),
    ("CMake", "code_bug",
     """
     -- Detecting CXX compile features - done
     >>CMake Error at CMakeLists.txt:12 (find_package):
       Could not find a package configuration file provided by "Torch"
     -- Configuring incomplete, errors occurred!
     """),
    ("linker", "code_bug",
     """
     [ 90%] Linking CXX executable serve
     >>/usr/bin/ld: main.o: in function `main': main.cpp:(.text+0x5): undefined reference to `serve()'
     collect2: error: ld returned 1 exit status
     make[2]: *** [CMakeFiles/serve.dir/build.make:97: serve] Error 1
     """),
    ("compiler killed", "oom",
     """
     [12/90] Building CUDA object csrc/attention.cu.o
     FAILED: csrc/attention.cu.o
     >>g++: fatal error: Killed signal terminated program cc1plus
     compilation terminated.
     ninja: build stopped: subcommand failed.
     """),
    ("Bazel", "code_bug",
     """
     //serve:cache_test                                                       PASSED in 0.4s
     >>//serve:serve_test                                                       FAILED in 1.2s
       /home/ci/.cache/bazel/testlogs/serve/serve_test/test.log
     Executed 2 out of 2 tests: 1 test passes and 1 fails locally.
     """),
    ("Bazel with a limit", "timeout",
     """
     >>//serve:serve_test                                                      TIMEOUT in 60.0s
     Executed 1 out of 1 test: 1 fails locally.
     """),
    ("docker build whose step fails", "code_bug",
     """
     #9 [4/7] RUN pip install -r requirements.txt
     #9 1.234 ERROR: Could not find a version that satisfies the requirement vllm==9.9 (from versions: 0.1, 0.2)
     >>#9 1.301 ERROR: No matching distribution found for vllm==9.9
     #9 ERROR: process "/bin/sh -c pip install -r requirements.txt" did not complete successfully: exit code: 1
     ERROR: failed to solve: process "/bin/sh -c pip install -r requirements.txt" did not complete successfully: exit code: 1
     """),
    ("docker build without a base", "infrastructure",
     """
     #3 ERROR: failed to do request: Head "https://images.example/v2/cuda/manifests/12.8"
     >>ERROR: failed to solve: images.example/cuda:12.8: failed to resolve source metadata for images.example/cuda:12.8
     """),
    ("docker build on a full disk", "infrastructure",
     """
     >>#14 221.3 OSError: [Errno 28] No space left on device: '/usr/local/lib/python3.12/site-packages/torch'
     ERROR: failed to solve: process "/bin/sh -c pip install torch" did not complete successfully: exit code: 1
     """),
    ("docker push", "infrastructure",
     """
     The push refers to repository [images.example/serve]
     >>denied: requested access to the resource is denied
     """),
    ("uv cannot resolve", "code_bug",
     """
     >>  × No solution found when resolving dependencies:
       ╰─▶ Because only vllm<=0.11 is available and you require vllm==9.9, we can conclude that your requirements are
           unsatisfiable.
     """),
    ("uv with a chain of causes", "infrastructure",
     """
     >>error: Failed to fetch: `https://wheels.example/torch.whl`
       Caused by: error sending request for url (https://wheels.example/torch.whl)
       Caused by: client error (Connect)
       Caused by: tcp connect error: Connection refused (os error 111)
     + RC=2
     """),
    ("pip against a stalled mirror", "infrastructure",
     """
     >>pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='wheels.example', port=443): Read timed out.
     """),
    ("download of a gated model", "infrastructure",
     """
     OSError: You are trying to access a gated repo.
     >>huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-6)
     """),
    ("download that is throttled", "capacity",
     """
     >>huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://models.example/config.json
     """),
    ("download without a hub", "infrastructure",
     """
     >>OSError: We couldn't connect to 'https://models.example' to load the files, and couldn't find them in the cache.
     """),
    ("vLLM out of memory", "oom",
     """
     INFO 09-01 12:00:00 [gpu_model_runner.py:1] Loading model weights took 14.2 GB
     (EngineCore_0 pid=71) ERROR 09-01 12:00:09 [core.py:700] EngineCore failed to start.
     >>(EngineCore_0 pid=71) ERROR 09-01 12:00:09 [core.py:700] torch.OutOfMemoryError: CUDA out of memory. Tried 1 GiB.
     (APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
     """),
    ("vLLM and an unknown architecture", "model_incompatibility",
     """
     >>ValueError: Model architectures ['FooForCausalLM'] are not supported for now. Supported architectures: ['Llama']
     RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
     """),
    ("vLLM and an unknown flag", "code_bug",
     """
     usage: vllm serve [model_tag] [options]
     >>vllm: error: unrecognized arguments: --max-batch 4
     """),
    ("vLLM whose collective hangs", "timeout",
     """
     >>[rank0]: Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3) ran for 600123 milliseconds before timing out.
     terminate called after throwing an instance of 'c10::DistBackendError'
     """),
    ("gunicorn that ends a slow worker", "timeout",
     """
     >>[2026-06-09 14:30:22 +0000] [7] [CRITICAL] WORKER TIMEOUT (pid:12)
     [2026-06-09 14:30:23 +0000] [7] [ERROR] worker 12 left. Perhaps out of memory?
     """),
    ("SageMaker without capacity", "capacity",
     """
     >>Failed: InsufficientInstanceCapacity: Unable to provision requested ML compute capacity due to a shortage.
     sagemaker.exceptions.UnexpectedStatusException: Error hosting endpoint serve: Failed.
     """),
    ("SageMaker beyond the quota", "quota",
     """
     >>botocore.errorfactory.ResourceLimitExceeded: An error occurred (ResourceLimitExceeded) when calling CreateEndpoint
     """),
    ("SageMaker and a slow container", "timeout",
     """
     >>botocore.errorfactory.ModelError: Your invocation timed out while waiting for a response from container primary.
     """),
    ("SageMaker that waits too long", "timeout",
     """
     >>botocore.exceptions.WaiterError: Waiter EndpointInService failed: Max attempts exceeded
     """),
    ("a container that dies without a word", "unknown",
     """
     INFO waiting for the endpoint
     >>The primary container for production variant AllTraffic did not pass the ping health check.
     """),
    ("Terraform", "code_bug",
     """
     ╷
     >>│ Error: Reference to undeclared resource
     │   on main.tf line 12, in resource "aws_sagemaker_endpoint" "serve":
     ╵
     """),
    ("Terraform that waits", "timeout",
     """
     aws_sagemaker_endpoint.serve: Still creating... [30m0s elapsed]
     >>│ Error: timeout while waiting for state to become 'InService' (last state: 'Creating', timeout: 30m0s)
     """),
    ("Kubernetes and memory", "oom",
     """
     State:          Waiting
       Reason:       CrashLoopBackOff
     >>Last State:     Terminated  Reason: OOMKilled  Exit Code: 137
     """),
    ("a runner that ends a job by its limit", "timeout",
     """
     [gw0] [ 89%] PASSED tests/test_ops.py::test_add
     >>##[error]The job running on runner gpu-7 has exceeded the maximum execution time of 360 minutes.
     ##[error]The operation was canceled.
     """),
    ("a person who cancels", "infrastructure",
     """
     !!!!!!!!!!!!!!!!!!!!!!!!!!!!!! KeyboardInterrupt !!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!
     (to show a full traceback on KeyboardInterrupt use --full-trace)
     >>##[error]The operation was canceled.
     """),
    ("a command that its limit interrupts", "timeout",
     """
     >>!!!!!!!!!!!!!!!!!!!!!!!!!!!!!! KeyboardInterrupt !!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!
     /src/serve.py:142: KeyboardInterrupt
     timeout: sending signal INT to command 'pytest'
     """),
    ("git without a server", "infrastructure",
     """
     error: RPC failed; curl 56 GnuTLS recv error (-9)
     >>fatal: the remote end hung up unexpectedly
     ##[error]Process completed with exit code 128.
     """),
    ("a driver that is gone", "infrastructure",
     """
     >>Failed to initialize NVML: Driver/library version mismatch
     RuntimeError: cannot start
     """),
    ("flake8", "code_bug",
     """
     >>src/serve.py:12:5: E501 line too long (130 > 120 characters)
     1     E501 line too long (130 > 120 characters)
     """),
    ("ESLint", "code_bug",
     """
     /src/serve.js
     >>  12:5  error  'port' is not defined  no-undef
     ✖ 1 problem (1 error, 0 warnings)
     """),
    ("pre-commit", "code_bug",
     """
     trim trailing whitespace.................................................Passed
     >>ruff.....................................................................Failed
     - hook id: ruff
     - exit code: 1
     """),
    ("a crash of the interpreter", "code_bug",
     """
     >>Fatal Python error: Segmentation fault
     Current thread 0x00007f (most recent call first):
       File "/src/serve.py", line 12 in load
     """),
    ("a kernel that reads elsewhere", "code_bug",
     """
     >>operator returned cudaErrorIllegalAddress at kernel.cu:120
     aborting
     """),
    ("a script without its tool", "code_bug",
     """
     + ./do/push
     >>/bin/sh: 1: aws: not found
     """),
    ("advice and settings only", "unknown",
     """
     read_timeout: 60s
     To avoid out of memory errors, lower the batch size
     the zoom level and the room are fine
     >>the endpoint failed
     """),
]  # fmt: skip
"""(kind, category, log): the deciding line is marked by `>>`. Written for these tests after the tools' own formats."""


@pytest.mark.parametrize(("kind", "category", "log"), KINDS, ids=[kind for kind, _, _ in KINDS])
def test_a_log_of_each_kind_is_read(kind: str, category: str, log: str):
    lines = [line.removeprefix("     ") for line in log.strip("\n").splitlines()]
    (deciding,) = (line.removeprefix(">>") for line in lines if line.startswith(">>"))
    reading = classify("test", "\n".join(line.removeprefix(">>") for line in lines))
    assert (reading.category, reading.line) == (category, deciding.strip())


def test_an_interruption_is_a_time_limit_only_where_a_limit_is_told():
    bar = "!!!!!!!!!! KeyboardInterrupt !!!!!!!!!!"
    assert classify("test", bar).category == "infrastructure"
    assert classify("test", f"{bar}\nCommand took >30min, returning 124").category == "timeout"


def test_a_chain_of_causes_is_told_by_its_first_line_and_decided_by_its_strongest():
    chain = (
        "error: cannot install\n  Caused by: something\n  Caused by: Connection refused\n  Caused by: No route to host"
    )
    reading = classify("build", f"Permission denied\n{chain}\nbye")
    assert (reading.category, reading.rule.split("@")[0], reading.line) == (
        "infrastructure", "v1/name-resolution", "error: cannot install",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("log", "stage", "reason"),
    [
        ("== stage: deploy ==\nMemoryError\n== stage: clean ==\nbye", "deploy", "clean runs after every failure"),
        ("== stage: build ==\nok\n== stage: push ==\nNo space left on device", "push", "the last marked"),
        ("+ ./do/test-adapter\nMemoryError", "test_adapter", "by its name here"),
        ("== stage: clean ==\nNo space left on device", "clean", "clean alone"),
        ("[Container] 2026/06/09 14:30:22 Entering phase BUILD\nMemoryError", "build", "phase of a build service"),
        ("building\nMemoryError when calling the endpoint", "deploy", "no marker: what the deciding line is about"),
        ("docker build\nMemoryError", "unknown", "words anywhere else say nothing"),
        ("", "unknown", "nothing"),
    ],
)
def test_a_stage_that_is_not_given_is_read_from_the_markers(log: str, stage: str, reason: str):
    assert classify("", log).stage == stage, reason
