"""Why single classes do not pass, in words, where what they raise does not say it."""

from __future__ import annotations

SECOND_LOOK = "steps twice a row: once to look at the data prediction, and sets its scheduler's step back"
INVERSION = "edits by what an inversion has found, which is a call of its own before this one"
BROKEN = "diffusers 0.42.1 itself cannot call it:"
REASONS = {
    "Cosmos3OmniPipeline": "not built: it packs texts, videos and sounds into one sequence, of which the fleet has no table yet",
    "CosmosTextToWorldPipeline": SECOND_LOOK,
    "CosmosVideoToWorldPipeline": f"{SECOND_LOOK}; it also draws new noise for its first frames at every step",
    "CycleDiffusionPipeline": "finds the noise of every step from another state that it denoises backwards beside its own",
    "EasyAnimateControlPipeline": f"{BROKEN} its encode_prompt has no argument text_encoder_index, which its call gives",
    "KandinskyV22InpaintPipeline": "puts its picture back from its second turn on, the cut at each: the network "
    "sees another picture at the first state (the samples agree)",
    "KarrasVePipeline": "its scheduler adds noise before each call, by methods that no other has",
    "LEditsPPPipelineStableDiffusion": INVERSION,
    "LEditsPPPipelineStableDiffusionXL": INVERSION,
    "OmniGenPipeline": "not built: its processor needs the library torchvision, which is not installed",
    "RFD4ProteinaPipeline": "not built: of proteins' residues and atoms the fleet has no table yet",
    "RePaintPipeline": "its scheduler goes forth and back between levels",
    "SanaWMPipeline": "not built: of its cameras and refiner the fleet has no table yet",
    "StableDiffusionAttendAndExcitePipeline": "changes its state by a gradient at steps of certain numbers",
    "StableDiffusionDiffEditPipeline": INVERSION,
    "StableDiffusionInpaintPipelineLegacy": "puts known data back at the level of the step before, not of the state's own",
    "StableDiffusionLatentUpscalePipeline": "scales its state by levels that it reads from its scheduler",
    "StableDiffusionPipelineSafe": "its guidance goes by the number of the step, and remembers that of earlier ones",
    "UniDiffuserPipeline": "draws new noise for its passes without a condition at every step",
    "VersatileDiffusionDualGuidedPipeline": f"{BROKEN} its attention takes no mask, which its network gives",
}
