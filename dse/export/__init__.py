"""A design as files that deploy it: vLLM, SGLang, Kubernetes, llm-d, NVIDIA Dynamo, Ray Serve."""

from dse.export.export import TARGETS, Exported, export

__all__ = ["TARGETS", "Exported", "export"]
