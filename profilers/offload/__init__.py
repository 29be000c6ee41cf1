"""An engine for models larger than the GPU: exact, overlapped, and counted to the byte.

In comes a policy (analyzer.offload_policy), a checkpoint or a config, and prompts; out go tokens
and one timed ticket per transfer and computation. The schedule and all byte counts are the
analyzer's; what is here runs them: lanes (threads or CUDA streams), homes on three tiers, staging
rings, the arithmetic, and the records of what it took.
"""
