"""ComfyUI's nodes of fewer: plans in place of a sampler and its sigmas."""

from .plan_node import FewerPlan

NODE_CLASS_MAPPINGS = {"FewerPlan": FewerPlan}
NODE_DISPLAY_NAME_MAPPINGS = {"FewerPlan": "Load fewer plan"}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
