# diffusers runs this: DiffusionPipeline.from_pretrained(..., custom_pipeline=FOLDER, ...)
from posedance.stages.svd.pipeline import PosedancePipeline

__all__ = ["PosedancePipeline"]
