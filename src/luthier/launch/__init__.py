"""`luthier launch`: a recipe on other machines, or a job file for them; each target in one file, and the table."""

from luthier.core.tables import Table
from luthier.launch.contract import Target

TARGETS: Table[Target] = Table(
    "target",
    {
        "torchrun": "luthier.launch.torchrun:TORCHRUN",
        "ray": "luthier.launch.ray:RAY",
        "slurm": "luthier.launch.slurm:SLURM",
        "kubernetes": "luthier.launch.kubernetes:KUBERNETES",
        "skypilot": "luthier.launch.skypilot:SKYPILOT",
        "sagemaker": "luthier.launch.sagemaker:SAGEMAKER",
        "vertex": "luthier.launch.vertex:VERTEX",
        "azure": "luthier.launch.azure:AZURE",
    },
)
